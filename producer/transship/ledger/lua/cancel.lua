-- Ask for a job to be cancelled. Workers see the wish; a job that none claimed yet is
-- withdrawn at once, because no worker will start it any more.
-- ARGV: prefix of the account's keys, id, queue, seconds to keep the wish, target reference
-- Returns 0: no such request; 1: asked.
local base, id, queue, keep, reference = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
if redis.call('EXISTS', base .. 'request:' .. id) == 0 then return 0 end
local time = redis.call('TIME')
local ms = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
redis.call('SET', base .. 'cancel:' .. id, ms, 'NX', 'EX', keep)
redis.call('DEL', base .. 'retry:' .. id)
local submitted = redis.call('ZSCORE', base .. 'queued', id)
if submitted then
  redis.call('ZREM', base .. 'queued', id)
  redis.call('ZADD', base .. 'withdrawn', submitted, id)
  redis.call('ZREM', base .. 'expiry', id)
  redis.call('ZREM', base .. 'target:' .. reference, id)
  -- A worker makes it final when it hears the bell.
  redis.call('ZADD', base .. 'due:' .. queue, ms, id)
end
return 1
