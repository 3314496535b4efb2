-- Ring again later for a job that this worker must leave to another.
-- ARGV: conf, id, queue, at least (ms), at most (ms). Waits a quarter of
-- the time that the job waits already.
local id, queue = ARGV[2], ARGV[3]
local base = base_of(id)
local wait = math.max(tonumber(ARGV[4]), math.min(tonumber(ARGV[5]), (now - waiting_since(id)) / 4))
local at = text(now + wait)
if redis.call('ZSCORE', base .. 'queued', id) then
  redis.call('ZADD', base .. 'due:' .. queue, at, id)
elseif redis.call('ZSCORE', ns .. ':due:' .. queue, id) then
  redis.call('ZADD', ns .. ':due:' .. queue, at, id)
end
return at
