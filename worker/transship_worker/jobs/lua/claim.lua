-- Claim a job, or learn why not.
-- ARGV[2]: {id, queue, reference, registry, fingerprint, expires (ms), token, worker, engine,
--           flavor, labels (JSON text or ''), on_behalf_of (the same), writers (accounts that may
--           write to the target; none: all may)}; `kind` migration also has name and mode
-- Returns {outcome, ...}: see claims.py.
local want = cjson.decode(ARGV[2])
local id, reference = want.id, want.reference
local base = base_of(id)
if want.writers then
  writers = {}
  for _, account in ipairs(want.writers) do writers[account] = true end
end

-- Its request was read. Workers that did not outlive that count as attempts of this job.
local mark = redis.call('GETDEL', reading_key(id))
local unread = tonumber(mark and string.match(mark, '^%d+')) or 0
if redis.call('EXISTS', base .. 'request:' .. id) == 0 then return {'unknown'} end
know(id)
local own = ns .. ':migration:' .. id
if redis.call('EXISTS', base .. 'cancel:' .. id) == 1 and redis.call('EXISTS', own) == 1 then
  -- Also of a migration that is planned to its end: its jobs see it, and the others end here.
  redis.call('HSET', own, 'cancel', 1)
  drop_pending(id, 100)
end
local fields = redis.pcall('HLEN', job_key(id))
if type(fields) == 'table' then
  redis.pcall('ZREM', base .. 'due:' .. want.queue, id)
  return {'final', 'failed', error_text('unreadable',
    'its record in Redis is no hash: somebody else wrote it', false)}
end
local fresh = fields == 0
local created = score(base .. 'queued', id) or now
local state = get(id, 'state') or 'queued'

-- What is answered to a claim that came about; the last is how long ago the job was submitted, or
-- its migration (ms).
local function claimed(fence, attempts)
  local _, migration = migration_of(id)
  local since = migration and redis.call('HGET', migration, 'created') or get(id, 'created')
  local age = math.max(0, now - (tonumber(since) or now))
  return {'claimed', fence, attempts, get(id, 'image_id') or '', get(id, 'via') or '', text(age)}
end

if state == 'running' then
  if tonumber(get(id, 'lease') or '0') > now then
    if get(id, 'token') ~= want.token then return {'running', get(id, 'worker')} end
    -- The answer to this very claim was lost, and the client asks again.
    return claimed(get(id, 'fence'), tonumber(get(id, 'attempts')))
  end
  if not lost(id) then
    return {'final', 'failed', get(id, 'error'), head_of(reference) or ''}
  end
  state = 'queued'
end

local asked = redis.call('EXISTS', base .. 'retry:' .. id) == 1 and state ~= 'succeeded'
if not asked and (state == 'succeeded' or state == 'failed' or state == 'cancelled') then
  redis.call('ZREM', base .. 'due:' .. want.queue, id)
  if state == 'succeeded' then
    redis.call('DEL', base .. 'retry:' .. id, base .. 'cancel:' .. id)
  end
  return {'final', state, get(id, 'error') or ''}
end
if asked and not fresh then
  -- Asked to try again by hand: the same job and its history, a new count. It need not be final
  -- here: one that waited was cancelled and retried before a worker heard of either.
  redis.call('DEL', base .. 'retry:' .. id)
  local _, whole = migration_of(id)
  if whole and redis.call('HEXISTS', whole, 'finished') == 1 then
    -- What was asked for after its migration was cancelled is not cancelled by that.
    redis.call('HDEL', whole, 'cancel')
  end
  redis.call('ZREM', ns .. ':retention', id)
  redis.call('HSET', job_key(id), 'failures', 0, 'attempts', 0, 'queue', want.queue,
    'image', reference, 'registry', want.registry)
  redis.call('HDEL', job_key(id), 'error', 'finished', 'started', 'image_id', 'digest', 'skipped',
    'progress', 'warnings', 'via')
  move(id, 'queued')
  redis.call('ZADD', ns .. ':due:' .. want.queue, text(now), id)
  redis.call('ZREM', base .. 'due:' .. want.queue, id)
  event(id, 'state', {message = 'retried by hand'})
  state = 'queued'
end

local function adopt_it()
  adopt(id, want.queue, reference, want.registry, want.fingerprint)
end

if wants_cancel(id) then
  adopt_it()
  cancelled(id)
  return {'cancelled', head_of(reference) or ''}
end
if fresh and not asked and now > created + want.expires then
  adopt_it()
  finish(id, 'failed', error_text('expired',
    'no worker started it within ' .. text(want.expires / 1000) .. ' s', false))
  return {'final', 'failed', get(id, 'error'), head_of(reference) or ''}
end
if state == 'retrying' then
  if newer_than(id, reference) then
    superseded(id)
    return {'cancelled', head_of(reference) or ''}
  end
  local next_at = tonumber(get(id, 'next_at') or '0')
  if next_at > now then return {'not_due', text(next_at)} end
end

if writers then
  -- What an account put before a target that it may not write holds up nobody, now or when this job
  -- ends.
  hear_of_all()
  for _, account in ipairs(accounts()) do
    if not writers[account] then
      local key = from(account) .. 'target:' .. reference
      local gone = redis.pcall('ZREMRANGEBYRANK', key, 0, 99)
      if type(gone) == 'number' and gone > 0 then
        redis.call('HINCRBY', ns .. ':refused', 'target_entry', gone)
      end
    end
  end
end

-- Its turn? One at a time for a target, in the order of submission.
if not score(base .. 'target:' .. reference, id) then
  redis.call('ZADD', base .. 'target:' .. reference, text(time[1] * 1000000 + time[2]), id)
end
-- Its own account may have put more before it than one script goes through: nobody else waits for
-- that, and what comes after it is not judged before it is found.
if not end_of(account_of(id), reference, 'ZRANGE', id, looks) then return {'cluttered'} end
hear_of_all()
local head = head_of(reference, id)
for _ = 1, 20 do
  if head == id or not head or get(head, 'state') ~= 'retrying' then break end
  superseded(head)
  head = head_of(reference, id)
end
if head ~= id then return {'behind', head or ''} end

adopt_it()
redis.call('ZREM', ns .. ':due:' .. want.queue, id)
redis.call('ZREM', ns .. ':expiry', id)
local fence = redis.call('HINCRBY', job_key(id), 'fence', 1)
if unread > 0 then redis.call('HINCRBY', job_key(id), 'failures', unread) end
local attempt = tonumber(get(id, 'failures') or '0') + 1
local lease = now + conf.lease
redis.call('HSET', job_key(id), 'token', want.token, 'worker', want.worker,
  'engine', want.engine, 'flavor', want.flavor, 'expires', text(want.expires), 'lease', text(lease), 'attempts', attempt,
  'step', 'preparing')
redis.call('HDEL', job_key(id), 'next_at', 'progress', 'labels', 'on_behalf_of')
for _, field in ipairs({'labels', 'on_behalf_of'}) do
  if want[field] ~= '' then redis.call('HSET', job_key(id), field, want[field]) end
end
forget_bytes(id)
if want.migration_name then
  local created = get(id, 'created')
  redis.call('HSET', own, 'name', want.migration_name, 'mode', want.migration_mode)
  redis.call('HSETNX', own, 'created', created)
  -- A wish to cancel it that still stood would have ended this claim.
  redis.call('HDEL', own, 'complete', 'error', 'cancel')
  redis.call('ZADD', index(id) .. 'migrations', created, id)
  settle(id)
end
redis.call('HSETNX', job_key(id), 'started', text(now))
redis.call('ZADD', ns .. ':leases', text(lease), id)
move(id, 'running')
event(id, 'state')
return claimed(fence, attempt)
