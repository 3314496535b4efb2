-- A repository holds blobs now: remember it, and end the leads.
-- ARGV: ns, lease, copy, over (1: it leads and waits for nothing more), registry, repository,
-- how long a hint is kept (ms), most repositories of a blob, how many leads end besides and their
-- names, digests.
local copy, over, registry, repository = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local keep, most = tonumber(ARGV[7]), tonumber(ARGV[8])
local first = 10 + tonumber(ARGV[9])
for index = 10, first - 1 do leave(copy, registry, repository, ARGV[index]) end
for index = first, #ARGV do
  local digest = ARGV[index]
  local key = ns .. ':blob:' .. registry .. ':' .. digest
  redis.call('ZADD', key, text(now), repository)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', text(now - keep))
  redis.call('ZREMRANGEBYRANK', key, 0, -most - 1)
  redis.call('PEXPIRE', key, keep)
  leave(copy, registry, repository, digest)
  -- Whoever waits finds the hint at its next look.
  local _, line = keys_of(scope_of(registry, repository), digest)
  redis.call('DEL', line)
end
if over == '1' then redis.call('DEL', copy_key(copy)) end
return #ARGV - first + 1
