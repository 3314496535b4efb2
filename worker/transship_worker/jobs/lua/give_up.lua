-- End a job whose workers went silent while they read its request.
-- ARGV: conf, id, how often, the last of them. Returns 1 if it was not final yet.
local id, lost, worker = ARGV[2], tonumber(ARGV[3]), ARGV[4]
know(id)
redis.call('DEL', reading_key(id))
if not ends_unread(id) then return 0 end
adopt(id, queue_of(id), '?', '?', nil)
forget_dues(base_of(id), {id})
local attempts = redis.call('HINCRBY', job_key(id), 'failures', lost)
redis.call('HSET', job_key(id), 'attempts', attempts)
finish(id, 'failed', error_text('worker_lost', 'given up after ' .. attempts
  .. ' attempts; the last: worker ' .. worker .. ' went silent while it read the request', false))
return 1
