-- One sweep of the reaper: ended leases, old requests, ended retention, and which bells to ring.
-- ARGV: conf, most jobs of each kind, seconds between two bells for one job: least, most.
-- Returns {{id, queue, attempt}, …} to ring, and counts {lost, expired, forgotten}.
local most, least_ms, most_ms = tonumber(ARGV[2]), ARGV[3] * 1000, ARGV[4] * 1000
local ring, counts = {}, {0, 0, 0}

-- The turn passes on; the reaper looks into the request for the queue.
local function ring_next(reference)
  local head = head_of(reference)
  if head then ring[#ring + 1] = {head, '', tonumber(get(head, 'failures') or '0') + 1} end
end

for _, id in ipairs(redis.call(
    'ZRANGEBYSCORE', ns .. ':leases', '-inf', text(now), 'LIMIT', 0, most)) do
  if get(id, 'state') ~= 'running' then
    redis.call('ZREM', ns .. ':leases', id)
  elseif not lost(id) then
    ring_next(get(id, 'image'))
  end
  counts[1] = counts[1] + 1
end

for _, id in ipairs(redis.call(
    'ZRANGEBYSCORE', ns .. ':expiry', '-inf', text(now), 'LIMIT', 0, most)) do
  local state = get(id, 'state')
  redis.call('ZREM', ns .. ':expiry', id)
  if state == 'queued' or state == 'retrying' then
    finish(id, 'failed', error_text('expired',
      'no worker took it up again within ' .. text(get(id, 'expires') / 1000) .. ' s', false))
    ring_next(get(id, 'image'))
    counts[2] = counts[2] + 1
  end
end

-- Migrations: windows that a lost worker did not fill, and those that were cancelled.
for _, id in ipairs(redis.call('ZREVRANGE', ns .. ':migrations', 0, most * 10)) do
  local key = ns .. ':migration:' .. id
  if redis.call('EXISTS', key) == 0 then
    redis.call('ZREM', ns .. ':migrations', id)
  elseif redis.call('LLEN', key .. ':pending') > 0 then
    if redis.call('HEXISTS', key, 'cancel') == 1
        or redis.call('EXISTS', base_of(id) .. 'cancel:' .. id) == 1 then
      drop_pending(id, 2000)
    else
      for _, due in ipairs(release(id)) do ring[#ring + 1] = due end
    end
  end
end

local accounts = redis.call('SMEMBERS', ns .. ':accounts')
local function expire(account)
  local base = ns .. ':from:' .. account .. ':'
  for _, id in ipairs(redis.call(
      'ZRANGEBYSCORE', base .. 'expiry', '-inf', text(now), 'LIMIT', 0, most)) do
    if account_of(id) == account and redis.call('EXISTS', job_key(id)) == 0
        and redis.call('EXISTS', base .. 'request:' .. id) == 1 then
      local ok, request = pcall(cjson.decode, redis.call('GET', base .. 'request:' .. id))
      if not ok or type(request) ~= 'table' then request = {} end
      local image = type(request.image) == 'string' and request.image or '?'
      if request.kind == 'migration' then image = 'migration:' .. id end
      adopt(id, 'push.*', image, '?', nil)
      if wants_cancel(id) then cancelled(id) else
        finish(id, 'failed', error_text('expired', 'no worker started it in time', false))
      end
      ring_next(image)
    end
    redis.call('ZREM', base .. 'expiry', id)
    redis.call('ZREM', base .. 'queued', id)
    for _, queue in ipairs(redis.call('SMEMBERS', base .. 'queues')) do
      redis.call('ZREM', base .. 'due:' .. queue, id)
    end
    counts[2] = counts[2] + 1
  end
end
-- An account whose keys are not what they should be harms itself alone.
for _, account in ipairs(accounts) do pcall(expire, account) end

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

for _, id in ipairs(redis.call(
    'ZRANGEBYSCORE', ns .. ':retention', '-inf', text(now), 'LIMIT', 0, most)) do
  local base, state = base_of(id), get(id, 'state')
  local ends = kept_until(id, state)
  if ends then
    redis.call('ZADD', ns .. ':retention', text(ends), id)
  else
    if state then redis.call('ZREM', ns .. ':state:' .. state, id) end
    redis.call('DEL', job_key(id), ns .. ':events:' .. id, base .. 'request:' .. id,
      base .. 'cancel:' .. id)
    redis.call('ZREM', ns .. ':retention', id)
    counts[3] = counts[3] + 1
  end
end

-- Lists of waiting jobs, by queue: the workers' own, and each account's.
local lists = {}
local function add(queue, key)
  -- Other keys of Celery's are no queues, whatever a producer says.
  if not (string.match(queue, '^push%.') or string.match(queue, '^bulk%.')
      or queue == 'copy.*' or queue == 'copy.bulk' or queue == 'plan.*') then return end
  lists[queue] = lists[queue] or {}
  table.insert(lists[queue], key)
end
for _, queue in ipairs(redis.call('SMEMBERS', ns .. ':queues')) do
  add(queue, ns .. ':due:' .. queue)
end
for _, account in ipairs(accounts) do
  local base = ns .. ':from:' .. account .. ':'
  for _, queue in ipairs(redis.pcall('SMEMBERS', base .. 'queues')) do
    add(queue, base .. 'due:' .. queue)
  end
end
for queue, keys in pairs(lists) do
  local due = 0
  for _, key in ipairs(keys) do
    local count = redis.pcall('ZCOUNT', key, '-inf', text(now))
    if type(count) == 'number' then due = due + count end
  end
  -- Jobs that rightly wait have a bell in the queue already and are not rung again.
  local missing = math.min(most, due - redis.call('LLEN', ns .. ':celery:' .. queue))
  for _, key in ipairs(keys) do
    if missing <= 0 then break end
    for _, id in ipairs(redis.pcall(
        'ZRANGEBYSCORE', key, '-inf', text(now), 'LIMIT', 0, missing)) do
      if redis.call('EXISTS', base_of(id) .. 'request:' .. id) == 0 then
        redis.call('ZREM', key, id)
        local state = get(id, 'state')
        if state == 'queued' or state == 'retrying' then
          -- Nobody can run it any more, and its migration must end.
          finish(id, 'failed', error_text('invalid_request', 'its request is gone', false))
        end
      else
        local wait = math.max(least_ms, math.min(most_ms, (now - waiting_since(id)) / 2))
        redis.call('ZADD', key, text(now + wait), id)
        ring[#ring + 1] = {id, queue, tonumber(get(id, 'failures') or '0') + 1}
      end
      missing = missing - 1
    end
  end
end
return {ring, counts}
