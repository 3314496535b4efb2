-- Make a request final that no worker can run: it does not parse, or names the impossible.
-- ARGV: conf, id, queue, error (JSON). Returns 1 if it was not final yet.
local id = ARGV[2]
know(id)
redis.call('DEL', reading_key(id))
if not ends_unread(id) then return 0 end
adopt(id, ARGV[3], '?', '?', nil)
forget_dues(base_of(id), {id})
finish(id, 'failed', ARGV[4])
return 1
