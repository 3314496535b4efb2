-- Ask for a final job to be tried again, after all that was submitted for its target. Final is
-- also one that was cancelled, or grew too old, before any worker wrote so.
-- ARGV: prefix of the account's keys, id, queue, target reference, first ring (ms from now),
--       the record's key
-- Returns 0: no such request; 1: asked; 2: it is not to be retried (any more).
local base, id, queue, reference, ring = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
if redis.call('EXISTS', base .. 'request:' .. id) == 0 then return 0 end
-- Said twice is asked once; and said again after the claim it is not asked at all.
if redis.call('EXISTS', base .. 'retry:' .. id) == 1 then return 1 end
local state = redis.call('HGET', ARGV[6], 'state')
local waits = state == 'queued' or state == 'retrying'
if state == 'running' or state == 'succeeded'
    or (waits and redis.call('EXISTS', base .. 'cancel:' .. id) == 0) then
  return 2
end
local time = redis.call('TIME')
local us = time[1] * 1000000 + time[2]
local ms = math.floor(us / 1000)
local target = base .. 'target:' .. reference
local last = redis.call('ZREVRANGE', target, 0, 0, 'WITHSCORES')
if last[2] and tonumber(last[2]) >= us then us = tonumber(last[2]) + 1 end
redis.call('SET', base .. 'retry:' .. id, string.format('%.0f', ms))
redis.call('DEL', base .. 'cancel:' .. id)
local submitted = redis.call('ZSCORE', base .. 'withdrawn', id)
if submitted then
  redis.call('ZREM', base .. 'withdrawn', id)
  redis.call('ZADD', base .. 'queued', submitted, id)
end
redis.call('ZREM', base .. 'expiry', id)
redis.call('ZADD', target, string.format('%.0f', us), id)
redis.call('ZADD', base .. 'due:' .. queue, string.format('%.0f', ms + ring), id)
return 1
