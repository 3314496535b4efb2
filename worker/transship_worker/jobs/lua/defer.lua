-- Ring again later for a job that this worker must leave to another.
-- ARGV: conf, id, queue, at least (ms), at most (ms).
know(ARGV[2])
redis.call('DEL', reading_key(ARGV[2]))
return defer(ARGV[2], ARGV[3], ARGV[4], ARGV[5], true)
