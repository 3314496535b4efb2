-- A part of a sweep: windows of an account's migrations that a lost worker did not fill, and those
-- that were cancelled. ARGV: conf, account, rank of the first migration, how many.
-- Returns {{id, queue, attempt}, …} to ring, whether the same ones need another call, and whether
-- these are the last (0 or 1).
local ring, again = {}, 0
local key_of_all = ns .. ':of:' .. ARGV[2] .. ':migrations'
local first, many = tonumber(ARGV[3]), tonumber(ARGV[4])
local found = redis.call('ZREVRANGE', key_of_all, first, first + many - 1)
local last = #found < many and 1 or 0
for _, id in ipairs(found) do
  local key = ns .. ':migration:' .. id
  if redis.call('EXISTS', key) == 0 then
    redis.call('ZREM', key_of_all, id)
  elseif redis.call('LLEN', key .. ':pending') > 0 then
    if #ring >= conf.window or again == 1 then return {ring, 1, last} end
    if redis.call('HEXISTS', key, 'cancel') == 1
        or redis.call('EXISTS', base_of(id) .. 'cancel:' .. id) == 1 then
      drop_pending(id, 100)
      if redis.call('LLEN', key .. ':pending') > 0 then again = 1 end
    else
      for _, due in ipairs(release(id)) do ring[#ring + 1] = due end
    end
  end
end
return {ring, again, last}
