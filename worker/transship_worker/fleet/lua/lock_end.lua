-- Let a lock go that is still one's own. ARGV: key, token.
if redis.call('GET', ARGV[1]) == ARGV[2] then return redis.call('DEL', ARGV[1]) end
return 0
