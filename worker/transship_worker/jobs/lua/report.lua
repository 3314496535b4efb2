-- Renew a lease and say what changed. ARGV: conf, id, fence, token, changes (JSON; may be {}).
-- Changes: step, progress (JSON text), warnings (JSON text), image_id, via with note (its reason).
-- Returns {held (0 or 1), cancel wanted (0 or 1)}.
local id, fence, token = ARGV[2], ARGV[3], ARGV[4]
if not holds(id, fence, token) then return {0, 0} end
local changes = cjson.decode(ARGV[5])
local lease = text(now + conf.lease)
redis.call('HSET', job_key(id), 'lease', lease)
redis.call('ZADD', ns .. ':leases', lease, id)
for _, field in ipairs({'progress', 'warnings', 'image_id'}) do
  if changes[field] then redis.call('HSET', job_key(id), field, changes[field]) end
end
if changes.via and changes.via ~= get(id, 'via') then
  redis.call('HSET', job_key(id), 'via', changes.via)
  event(id, 'note', {message = changes.note})
end
if changes.progress then tell_bytes(id, changes.progress) end
if changes.step and changes.step ~= get(id, 'step') then
  redis.call('HSET', job_key(id), 'step', changes.step)
  event(id, 'step')
end
return {1, wants_cancel(id) and 1 or 0}
