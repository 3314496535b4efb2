-- End leads and waits without a blob; the next look of who waits longest makes it the leader.
-- ARGV: ns, lease, copy, over (1: it leads and waits for nothing more), registry, repository,
-- digests.
local copy, over, registry, repository = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
for index = 7, #ARGV do leave(copy, registry, repository, ARGV[index]) end
if over == '1' then redis.call('DEL', copy_key(copy)) end
return 1
