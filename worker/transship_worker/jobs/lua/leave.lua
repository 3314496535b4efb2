-- Ring again later for a job whose request this worker cannot read, so that nobody says in which
-- queue it waits. ARGV: conf, id, at least (ms), at most (ms), expiry where there is none (ms).
local id = ARGV[2]
local base = base_of(id)
know(id)
redis.call('DEL', reading_key(id))
for _, queue in ipairs(live_queues()) do defer(id, queue, ARGV[3], ARGV[4], false) end
-- Once it has a record, that says when it expires.
if redis.call('EXISTS', job_key(id)) == 0 and not score(base .. 'expiry', id) then
  redis.pcall('ZADD', base .. 'expiry', text(now + ARGV[5]), id)
end
return 1
