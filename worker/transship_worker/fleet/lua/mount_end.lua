-- Let the locks of mounts go. Where a mount came about, the hint stands before anybody else can
-- have the lock: distribution 2.8 rewrites the link to a blob that is mounted again, and who
-- reads it just then finds none.
-- ARGV: token, repository, how long a hint is kept (ms), most repositories of a blob, then for
-- each blob: lock, key of its hints, 1 if it was mounted.
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
for index = 5, #ARGV, 3 do
  local lock, hints = ARGV[index], ARGV[index + 1]
  if ARGV[index + 2] == '1' then
    redis.call('ZADD', hints, now, ARGV[2])
    redis.call('ZREMRANGEBYRANK', hints, 0, -tonumber(ARGV[4]) - 1)
    redis.call('PEXPIRE', hints, ARGV[3])
  end
  if redis.call('GET', lock) == ARGV[1] then redis.call('DEL', lock) end
end
return 1
