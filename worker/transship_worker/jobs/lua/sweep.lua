-- A part of a sweep of the reaper: leases that ended, what waited too long, what is kept no longer.
-- ARGV: conf, most jobs of each kind.
-- Returns {{id, queue, attempt}, …} to ring, counts {lost, expired, forgotten}, and whether there
-- may be more (0 or 1).
local most = tonumber(ARGV[2])
local ring, counts, more = {}, {0, 0, 0}, 0

-- The turn passes on; the reaper looks into the request for the queue.
local function ring_next(reference)
  local head = reference and head_of(reference)
  if head then ring[#ring + 1] = {head, '', tonumber(get(head, 'failures') or '0') + 1} end
end

-- Do something for each job whose time has come.
local function each(key, act)
  local found = redis.call('ZRANGEBYSCORE', key, '-inf', text(now), 'LIMIT', 0, most)
  if #found == most then more = 1 end
  for _, id in ipairs(found) do guarded(act, id, key) end
end

each(ns .. ':leases', function(id)
  if get(id, 'state') ~= 'running' then
    redis.call('ZREM', ns .. ':leases', id)
  elseif not lost(id) then
    ring_next(get(id, 'image'))
  end
  counts[1] = counts[1] + 1
end)

each(ns .. ':expiry', function(id)
  local state = get(id, 'state')
  redis.call('ZREM', ns .. ':expiry', id)
  if state == 'queued' or state == 'retrying' then
    finish(id, 'failed', error_text('expired',
      'no worker took it up again within ' .. text(get(id, 'expires') / 1000) .. ' s', false))
    ring_next(get(id, 'image'))
    counts[2] = counts[2] + 1
  end
end)

-- Until when what is final is kept all the same, or nil.
local function kept_until(id, state)
  -- Asked for again: kept while it waits for a worker.
  if redis.call('EXISTS', base_of(id) .. 'retry:' .. id) == 1 then return now + 3600000 end
  -- The time of what belongs to a migration begins with the end of the whole.
  local _, key = migration_of(id)
  key = key or ns .. ':migration:' .. id
  if redis.call('EXISTS', key) == 0 then return nil end
  local finished = redis.call('HGET', key, 'finished')
  if not finished then return now + 3600000 end
  local ends = finished + (conf.keep[state] or 0)
  return ends > now and ends or nil
end

each(ns .. ':retention', function(id)
  local base, state = base_of(id), get(id, 'state')
  local ends = kept_until(id, state)
  if ends then
    redis.call('ZADD', ns .. ':retention', text(ends), id)
  else
    -- All of them: a worker of another version may have moved it elsewhere.
    for _, name in ipairs({'queued', 'running', 'retrying', 'succeeded', 'failed', 'cancelled'}) do
      redis.call('ZREM', index(id) .. 'state:' .. name, id)
    end
    redis.call('DEL', job_key(id), ns .. ':events:' .. id, base .. 'request:' .. id,
      base .. 'cancel:' .. id)
    redis.call('ZREM', ns .. ':retention', id)
    counts[3] = counts[3] + 1
  end
end)
return {ring, counts, more}
