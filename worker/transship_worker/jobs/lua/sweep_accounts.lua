-- A part of a sweep: accounts whose names producers added and of which no worker has heard, because
-- each bell of theirs was lost. Names without any job are thrown out. ARGV: conf, how many names.
-- Returns how many were thrown out.
local foul = {}
for _, name in ipairs(redis.pcall('SRANDMEMBER', ns .. ':accounts', ARGV[2])) do
  if redis.call('SISMEMBER', ns .. ':accounts:known', name) == 0 then
    -- Nobody but the account itself can have written these.
    if names_account(name) and redis.call('EXISTS', from(name) .. 'queued',
        from(name) .. 'withdrawn', from(name) .. 'expiry') > 0 then
      redis.call('SADD', ns .. ':accounts:known', name)
    else
      foul[#foul + 1] = name
    end
  end
end
if #foul > 0 then
  redis.call('SREM', ns .. ':accounts', unpack(foul))
  redis.call('HINCRBY', ns .. ':refused', 'account_name', #foul)
end
return #foul
