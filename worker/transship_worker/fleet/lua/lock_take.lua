-- Take a lock, or learn that it is another's. ARGV: key, token, for how long at most (ms).
-- The same token again has it already: the first answer was lost.
if redis.call('SET', ARGV[1], ARGV[2], 'NX', 'PX', ARGV[3]) then return 1 end
return redis.call('GET', ARGV[1]) == ARGV[2] and 1 or 0
