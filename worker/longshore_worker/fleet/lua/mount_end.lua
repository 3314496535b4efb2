-- Let the lock of a mount go. Where it came about, the hint stands before anybody else can have
-- the lock: distribution 2.8 rewrites the link to a blob that is mounted again, and who reads
-- it just then finds none.
-- ARGV: lock, token, key of the blob's hints, repository, how long a hint is kept (ms), most
-- repositories of a blob, 1 if it was mounted.
if ARGV[7] == '1' then
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  redis.call('ZADD', ARGV[3], string.format('%.0f', now), ARGV[4])
  redis.call('ZREMRANGEBYRANK', ARGV[3], 0, -tonumber(ARGV[6]) - 1)
  redis.call('PEXPIRE', ARGV[3], ARGV[5])
end
if redis.call('GET', ARGV[1]) == ARGV[2] then return redis.call('DEL', ARGV[1]) end
return 0
