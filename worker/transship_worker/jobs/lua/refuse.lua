-- End a job that its account may not have done, before any claim.
-- ARGV[2]: {id, queue, reference, registry, fingerprint, code, error (JSON text)}
-- Returns {1 if it ended now, job to ring for or '', jobs of its migration to ring for}.
local want = cjson.decode(ARGV[2])
local id, reference = want.id, want.reference
local base = base_of(id)
know(id)
redis.call('DEL', reading_key(id))
if type(redis.pcall('HLEN', job_key(id))) == 'table' then
  redis.pcall('ZREM', base .. 'due:' .. want.queue, id)
  return {0, '', {}}
end
if redis.call('EXISTS', base .. 'request:' .. id) == 0 then return {0, '', {}} end
local state = get(id, 'state') or 'queued'
local asked = state ~= 'succeeded' and redis.call('EXISTS', base .. 'retry:' .. id) == 1
if state == 'running' or (not asked and state ~= 'queued' and state ~= 'retrying') then
  -- A worker that knew other rights runs it, or it is final.
  redis.pcall('ZREM', base .. 'due:' .. want.queue, id)
  return {0, '', {}}
end
adopt(id, want.queue, reference, want.registry, want.fingerprint)
if wants_cancel(id) then
  cancelled(id)
else
  finish(id, 'failed', want.error)
  if names_account(account_of(id)) then
    redis.call('HINCRBY', ns .. ':of:' .. account_of(id) .. ':refused', want.code, 1)
  end
end
local migration = migration_of(id)
return {1, head_of(reference) or '', migration and release(migration) or {}}
