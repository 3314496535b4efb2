-- Make planned rows known to their migration; those that are to be done become jobs that wait for
-- room in its window. A row that is known already is left as it is: a planner may begin anew.
-- ARGV: conf, id, fence and token of the planning's claim, rows (JSON):
--   {{id, skip}} or {{id, request (JSON text), queue, image, registry, size, error (JSON text)}}
-- Returns {held (0 or 1), jobs to ring for: {id, queue, attempt}, …}.
local migration, fence, token = ARGV[2], ARGV[3], ARGV[4]
local key = ns .. ':migration:' .. migration
if not holds(migration, fence, token) then return {0, {}} end
for _, row in ipairs(cjson.decode(ARGV[5])) do
  local id = row.id
  local number = redis.call('ZCARD', key .. ':jobs')
  if redis.call('ZADD', key .. ':jobs', 'NX', number, id) == 1 then
    if row.skip then
      redis.call('HINCRBY', key, 'skipped', row.skip)
    else
      redis.call('SET', base_of(id) .. 'request:' .. id, row.request)
      redis.call('HSET', job_key(id), 'created', text(now), 'queue', row.queue,
        'image', row.image, 'registry', row.registry, 'migration', migration,
        'failures', 0, 'attempts', 0, 'fence', 0, 'told_total', text(bounded(row.size)))
      add_bytes(key, 'planned', bounded(row.size))
      move(id, 'queued')
      if row.error then
        finish(id, 'failed', row.error)
      else
        redis.call('RPUSH', key .. ':pending', id)
      end
    end
  end
end
return {1, release(migration)}
