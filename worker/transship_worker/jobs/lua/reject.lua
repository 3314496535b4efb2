-- Make a request final that no worker can run: it does not parse, or names the impossible.
-- ARGV: conf, id, queue, error (JSON). Returns 1 if it was not final yet.
local id = ARGV[2]
know(id)
local state = get(id, 'state')
if state and state ~= 'queued' then return 0 end
adopt(id, ARGV[3], '?', '?', nil)
for _, queue in ipairs(live_queues()) do
  redis.pcall('ZREM', base_of(id) .. 'due:' .. queue, id)
end
finish(id, 'failed', ARGV[4])
return 1
