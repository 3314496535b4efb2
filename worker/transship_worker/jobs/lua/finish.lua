-- End a claim. ARGV: conf, id, fence, token, outcome (JSON).
-- Outcomes, each with the attempt's progress if it told any, and image_id and via if it has one:
--           {kind = 'succeeded', digest, skipped, warnings}
--           {kind = 'failed', error}           (final)
--           {kind = 'cancelled'}
--           {kind = 'retry', error, delay (ms)}   (counts an attempt)
--           {kind = 'pause', error, delay (ms)}   (counts none: its registry is not to be asked)
--           {kind = 'release', message, delay (ms)}  (handed back; counts none)
-- Returns {accepted: 'no' | 'yes' | 'again', state, job to ring for or '',
--          jobs of the same migration to ring for: {id, queue, attempt}, …}.
local id, fence, token = ARGV[2], ARGV[3], ARGV[4]
local outcome = cjson.decode(ARGV[5])
local reference = get(id, 'image')

local function following()
  local state = get(id, 'state')
  if state == 'succeeded' or state == 'failed' or state == 'cancelled' then
    return head_of(reference) or ''
  end
  return state == 'queued' and (outcome.delay or 0) == 0 and id or ''
end

if not holds(id, fence, token) then
  -- The reply to an accepted finish may have been lost: the same word again is not refused.
  local record = redis.call('HMGET', job_key(id), 'fence', 'ended_by', 'state')
  if record[1] == fence and record[2] == token then return {'again', record[3], following(), {}} end
  return {'no', record[3] or '', '', {}}
end
redis.call('HSET', job_key(id), 'ended_by', token)
redis.call('HDEL', job_key(id), 'token')
for _, field in ipairs({'digest', 'warnings', 'progress', 'image_id', 'via'}) do
  if outcome[field] then redis.call('HSET', job_key(id), field, outcome[field]) end
end
if outcome.progress then tell_bytes(id, outcome.progress) end
if outcome.skipped then redis.call('HSET', job_key(id), 'skipped', 1) end

local kind = outcome.kind
if kind == 'succeeded' then
  finish(id, 'succeeded', '')
elseif kind == 'failed' then
  redis.call('HINCRBY', job_key(id), 'failures', 1)
  finish(id, 'failed', outcome.error)
elseif kind == 'cancelled' or wants_cancel(id) then
  cancelled(id)
elseif kind == 'release' then
  wait_until(id, 'queued', now + (outcome.delay or 0))
  event(id, 'state', {message = outcome.message or ''})
else
  redis.call('HSET', job_key(id), 'error', outcome.error)
  if kind ~= 'pause' and count_failure(id, outcome.error) then
    -- over
  elseif newer_than(id, reference) then
    superseded(id)
  else
    local at = now + outcome.delay
    redis.call('HSET', job_key(id), 'next_at', text(at))
    wait_until(id, 'retrying', at)
    event(id, 'state', {error = outcome.error,
      message = 'again in ' .. text(outcome.delay / 1000) .. ' s'})
  end
end
local migration = migration_of(id)
return {'yes', get(id, 'state'), following(), migration and release(migration) or {}}
