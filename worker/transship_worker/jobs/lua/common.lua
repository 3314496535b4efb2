-- What the worker's scripts share. The first argument of each is a JSON object:
-- {ns, keep = {succeeded, failed, cancelled} (ms), attempts, lease (ms), longest (ms)}.
-- Redis's clock is the only clock. Times are ms since 1970; orders among targets are µs.
local conf = cjson.decode(ARGV[1])
local ns = conf.ns
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function text(number) return string.format('%.0f', number) end

local function account_of(id)
  local name = string.sub(id, 22)
  if name == '' then return 'default' end
  return name
end

local function from(account) return ns .. ':from:' .. account .. ':' end
local function base_of(id) return from(account_of(id)) end
-- What workers write of an account's jobs.
local function index(id) return ns .. ':of:' .. account_of(id) .. ':' end
local function job_key(id) return ns .. ':job:' .. id end

-- A field of a job's record; false: it has none, or there is no record, or it is none.
local function get(id, field)
  local found = redis.pcall('HGET', job_key(id), field)
  return type(found) ~= 'table' and found
end

-- The score in a set that a producer wrote, or nil: it may be anything, even no set.
local function score(key, member)
  local found = redis.pcall('ZSCORE', key, member)
  return type(found) == 'string' and tonumber(found) or nil
end

-- Sets that a producer writes are read some entries at a time, so that no script takes long: what is
-- no job of that account, or none that exists, is thrown out and counted. A script throws out so many
-- at most.
local looks = 500

local function throw_out(key, members, what)
  if #members == 0 then return end
  local gone = redis.pcall('ZREM', key, unpack(members))
  if type(gone) == 'number' and gone > 0 then
    redis.pcall('HINCRBY', ns .. ':refused', what, gone)
  end
end

-- Do something with a job. A record of another type throws the job out of that set; what else fails
-- (Redis is full) ends the script.
local function guarded(act, id, key)
  local ok, problem = pcall(act, id)
  if ok then return end
  if type(redis.pcall('HLEN', ns .. ':job:' .. id)) ~= 'table' then error(problem) end
  throw_out(key, {id}, 'record')
end

local function names_account(name)
  return #name <= 32 and string.find(name, '^[%w_][%w_-]*$') ~= nil
end

-- Whether this is how a job of that account can be called.
local function names_job(id, account)
  return #id >= 20 and not string.find(string.sub(id, 1, 20), '[^0-9a-hjkmnp-tv-z]')
    and (string.sub(id, 21) == '-' .. account or (account == 'default' and #id == 20))
end

-- A worker has seen a request of that account, which nobody else can write.
local function know(id)
  if names_account(account_of(id)) then
    redis.call('SADD', ns .. ':accounts:known', account_of(id))
  end
end

-- Those that workers know. `hear_of_all` adds some of the names that producers added, of which no
-- worker may have heard yet.
local all_accounts
local function accounts()
  if not all_accounts then all_accounts = redis.call('SMEMBERS', ns .. ':accounts:known') end
  return all_accounts
end

local function hear_of_all()
  local seen = {}
  for _, name in ipairs(accounts()) do seen[name] = true end
  for _, name in ipairs(redis.pcall('SRANDMEMBER', ns .. ':accounts', 50)) do
    if not seen[name] and names_account(name) then
      all_accounts[#all_accounts + 1] = name
    end
  end
end

-- Queues that any worker may listen to, and those of engines that a live one listens to.
local function live_queues()
  local found = {'push.*', 'bulk.*', 'copy.*', 'copy.bulk', 'plan.*'}
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', ns .. ':listening', text(now), '+inf',
      'LIMIT', 0, 1000)) do
    found[#found + 1] = name
  end
  return found
end

-- A change becomes an entry of the job's capped stream.
local function event(id, kind, extra)
  local record = redis.call('HMGET', job_key(id), 'state', 'step', 'attempts', 'worker')
  local entry = {
    'kind', kind, 'at', text(now), 'state', record[1], 'step', record[2] or '',
    'attempt', record[3] or '0', 'worker', record[4] or '',
  }
  for name, value in pairs(extra or {}) do
    entry[#entry + 1] = name
    entry[#entry + 1] = value
  end
  redis.call('XADD', ns .. ':events:' .. id, 'MAXLEN', '~', 200, '*', unpack(entry))
end

-- The migration that a job belongs to: its id and key, or nil; also once nothing is kept of it. A
-- record says so from its first word on.
local migrations = {}
local function migration_of(id)
  local migration = migrations[id]
  if migration == nil then
    migration = get(id, 'migration')
    migrations[id] = migration
  end
  if not migration or migration == '' then return nil end
  local key = ns .. ':migration:' .. migration
  if redis.call('EXISTS', key) == 0 then return nil end
  return migration, key
end

-- How many of a migration's jobs are in these states.
local function counted(key, ...)
  local sum = 0
  for _, count in ipairs(redis.call('HMGET', key, ...)) do sum = sum + tonumber(count or '0') end
  return sum
end

-- A migration is finished once all its rows are known and none is left to be done.
local function settle(migration)
  local key = ns .. ':migration:' .. migration
  if redis.call('HGET', key, 'complete') ~= '1'
      or counted(key, 'queued', 'running', 'retrying') > 0 then
    if redis.call('HDEL', key, 'finished') == 1 then
      redis.call('PERSIST', key)
      redis.call('PERSIST', key .. ':jobs')
    end
    return
  end
  if redis.call('HSETNX', key, 'finished', text(now)) == 1 then
    -- As long as the longest kept of its jobs.
    local keep = math.max(conf.keep.succeeded, conf.keep.failed, conf.keep.cancelled)
    redis.call('PEXPIRE', key, text(keep))
    redis.call('PEXPIRE', key .. ':jobs', text(keep))
  end
end

-- The totals of a migration follow each move of its jobs.
local function tally(id, old, state)
  local migration, key = migration_of(id)
  if not migration then return end
  -- An image that was there already succeeded without work, and is counted apart.
  if state == 'succeeded' and get(id, 'skipped') == '1' then state = 'skipped' end
  if old then redis.call('HINCRBY', key, old, -1) end
  redis.call('HINCRBY', key, state, 1)
  settle(migration)
end

local function move(id, state)
  local record = redis.call('HMGET', job_key(id), 'state', 'created')
  local old = record[1]
  if old then redis.call('ZREM', index(id) .. 'state:' .. old, id) end
  redis.call('HSET', job_key(id), 'state', state)
  redis.call('ZADD', index(id) .. 'state:' .. state, record[2] or text(now), id)
  tally(id, old, state)
end

-- Queue and target of a job that no worker claimed, as its account wrote them beside the request;
-- nil: it did not (an older version), or it wrote what cannot be.
local function route_of(id)
  local found = redis.pcall('GETRANGE', base_of(id) .. 'route:' .. id, 0, 1023)
  if type(found) ~= 'string' or #found > 1000 or string.find(found, '%c') then return nil end
  return string.match(found, '^([%w_.*-]+) ([^ ]+)$')
end

-- The record of a job begins with its first claim (or its end before one). `queue` may be nil.
local function adopt(id, queue, reference, registry, fingerprint)
  local base = base_of(id)
  if redis.call('EXISTS', job_key(id)) == 0 then
    local created = score(base .. 'queued', id) or score(base .. 'withdrawn', id) or now
    created = math.max(0, math.min(now, created))
    redis.call('HSET', job_key(id), 'created', text(created),
      'image', reference, 'registry', registry, 'failures', 0, 'attempts', 0, 'fence', 0)
    if queue then redis.call('HSET', job_key(id), 'queue', queue) end
    move(id, 'queued')
  end
  -- The account may have put anything there; that ends no script that others need.
  for _, name in ipairs({'queued', 'withdrawn', 'expiry', queue and 'due:' .. queue}) do
    redis.pcall('ZREM', base .. name, id)
  end
  redis.call('DEL', base .. 'retry:' .. id, base .. 'route:' .. id)
  if fingerprint and redis.pcall('GETRANGE', base .. 'same:' .. fingerprint, 0, #id) == id then
    redis.call('DEL', base .. 'same:' .. fingerprint)
  end
end

-- The clocks of a Redis and of the replica that takes over may differ so much. Unit: ms.
local skew = 3600000

-- Whether a job that is final, or was never claimed, was asked to be tried again. No wish lasts longer
-- than any job may wait.
local function asked_again(base, id)
  -- It may be of any length.
  local at = redis.pcall('GETRANGE', base .. 'retry:' .. id, 0, 20)
  at = type(at) == 'string' and tonumber(at)
  return at and at <= now + skew and at > now - conf.longest
end

-- Whether a job counts in the queue of a target: it is not final, and it does not stay there for ever
-- without anybody seeing it. Workers look after what has a record. What has none is listed while it
-- is in `queued`, and ends by its expiry at the latest.
local function counts(account, reference, id)
  if not names_job(id, account) then return false end
  local base = from(account)
  local record = redis.pcall('HMGET', job_key(id), 'state', 'image')
  if record.err then return false end
  local state = record[1]
  if not state then
    if redis.call('EXISTS', base .. 'request:' .. id) == 0 then return false end
    local since, expires = score(base .. 'queued', id), score(base .. 'expiry', id)
    return since ~= nil and since <= now + skew
      and ((expires ~= nil and expires <= now + conf.longest + skew) or asked_again(base, id))
  end
  if state == 'succeeded' then return false end
  if state == 'failed' or state == 'cancelled' then
    return asked_again(base, id) and redis.call('EXISTS', base .. 'request:' .. id) == 1
  end
  return record[2] == reference
end

-- Accounts whose jobs count for the target of this script's job: those that may write there. A
-- claim sets it where accounts have rights; nil: all.
local writers

-- The first (or last) job of an account that counts for a target, and its order; or nil. What does
-- not count is thrown out; if it is too much for once, the account holds up nobody this time.
-- `sure`: a job that is known to count. `limit`: entries that are looked at.
local function end_of(account, reference, command, sure, limit)
  if writers and not writers[account] then return nil end
  local key = from(account) .. 'target:' .. reference
  local found = redis.pcall(command, key, 0, 0, 'WITHSCORES')
  if not found[1] then return nil end
  if found[1] == sure or counts(account, reference, found[1]) then
    return found[1], tonumber(found[2])
  end
  local most = math.min(looks, limit or 50)
  local foul, head, order = {}, nil, nil
  found = most > 0 and redis.pcall(command, key, 0, most - 1, 'WITHSCORES') or {}
  for i = 1, #found, 2 do
    if found[i] == sure or counts(account, reference, found[i]) then
      head, order = found[i], tonumber(found[i + 1])
      break
    end
    foul[#foul + 1] = found[i]
  end
  looks = looks - #foul
  throw_out(key, foul, 'target_entry')
  return head, order
end

-- The job whose turn it is among all accounts' jobs for one target reference, or nil.
local function head_of(reference, sure)
  local head, order
  for _, account in ipairs(accounts()) do
    local first, at = end_of(account, reference, 'ZRANGE', sure)
    if first and (not order or at < order) then head, order = first, at end
  end
  return head
end

-- Whether any job for the reference was submitted after this one.
local function newer_than(id, reference)
  local mine = score(base_of(id) .. 'target:' .. reference, id)
  if not mine then return false end
  hear_of_all()
  for _, account in ipairs(accounts()) do
    local last, at = end_of(account, reference, 'ZREVRANGE', id)
    if last and last ~= id and at > mine then return true end
  end
  return false
end

local function leave_target(id)
  local reference = get(id, 'image')
  if reference then redis.pcall('ZREM', base_of(id) .. 'target:' .. reference, id) end
end

local function error_text(code, message, retryable)
  return cjson.encode({code = code, message = message, retryable = retryable})
end

-- Make a job final. `err` is JSON or ''.
local function finish(id, state, err)
  redis.call('HSET', job_key(id), 'finished', text(now), 'error', err)
  redis.call('HDEL', job_key(id), 'step', 'lease', 'next_at')
  move(id, state)
  redis.call('ZREM', ns .. ':leases', id)
  redis.call('ZREM', ns .. ':expiry', id)
  local queue = get(id, 'queue')
  if queue then redis.call('ZREM', ns .. ':due:' .. queue, id) end
  redis.call('ZADD', ns .. ':retention', text(now + conf.keep[state]), id)
  leave_target(id)
  local own = ns .. ':migration:' .. id
  if redis.call('EXISTS', own) == 1 then
    -- It was the planning of a migration. A wish to cancel that came at its very end is one for
    -- its jobs.
    if state == 'cancelled' or redis.call('EXISTS', base_of(id) .. 'cancel:' .. id) == 1 then
      redis.call('HSET', own, 'cancel', 1)
    end
    if state ~= 'succeeded' then
      -- No more rows will come.
      redis.call('HSET', own, 'complete', 1, 'error', err)
      settle(id)
    end
  end
  redis.call('DEL', base_of(id) .. 'cancel:' .. id)
  event(id, 'state', {error = err})
end

-- Put a job with a record back to where a worker will take it at `at` (ms).
local function wait_until(id, state, at)
  redis.call('HDEL', job_key(id), 'step', 'lease')
  redis.call('HSET', job_key(id), 'since', text(at))
  redis.call('ZREM', ns .. ':leases', id)
  move(id, state)
  redis.call('ZADD', ns .. ':due:' .. get(id, 'queue'), text(at), id)
  -- Back in the queue it may wait as long as before its first start, and no longer: else a job
  -- of an engine that is gone for good would hold up its target for ever.
  local expires = tonumber(get(id, 'expires') or '0')
  if expires > 0 then redis.call('ZADD', ns .. ':expiry', text(at + expires), id) end
end

-- Since when a job could have run (ms): what the pauses between its bells grow with.
local function waiting_since(id)
  return score(base_of(id) .. 'queued', id) or tonumber(get(id, 'since') or get(id, 'created') or now)
end

-- There while a worker reads a job's request: see read.lua.
local function reading_key(id) return ns .. ':reading:' .. id end

-- The queue that a job waits in: its record has it, or else its account put it into one that workers
-- listen to. From a queue of any engine a worker looks into the request.
local function queue_of(id)
  local queue = get(id, 'queue')
  if queue then return queue end
  for _, name in ipairs(live_queues()) do
    if score(base_of(id) .. 'due:' .. name, id) then return name end
  end
  return 'push.*'
end

-- The same with who submitted it, as producers write it: ` by ACCOUNT for ACCOUNT/SUBJECT`.
-- `other`: what the record says of for whom; false: nothing.
local function by(id, shown, other)
  local account = account_of(id)
  local fine, whom = pcall(cjson.decode, other or '')
  if not fine or type(whom) ~= 'table' or type(whom.account) ~= 'string' then
    return account == 'default' and shown or shown .. ' by ' .. account
  end
  local subject = type(whom.subject) == 'string' and whom.subject ~= '' and '/' .. whom.subject or ''
  return shown .. ' by ' .. account .. ' for ' .. whom.account .. subject
end

-- What Flower shows of a job that has a record; else ''.
local function display_of(id)
  local image, registry = get(id, 'image'), get(id, 'registry')
  if not image or image == '?' then return '' end
  local shown = registry and registry ~= '' and image .. ' → ' .. registry or image
  return by(id, shown, get(id, 'on_behalf_of'))
end

-- No bell is rung any more for jobs of an account, into whatever queue it put them.
local function forget_dues(base, ids)
  for _, queue in ipairs(live_queues()) do
    redis.pcall('ZREM', base .. 'due:' .. queue, unpack(ids))
  end
end

-- Whether a job that no worker can read is to be made final. One that is final stays so, whoever asks
-- to try it again.
local function ends_unread(id)
  local state = get(id, 'state')
  if not state or state == 'queued' or state == 'retrying' then return true end
  if state ~= 'running' then
    redis.call('DEL', base_of(id) .. 'retry:' .. id)
    forget_dues(base_of(id), {id})
  end
  return false
end

-- Ring again later, after a quarter of the time that a job waits already, within bounds (ms).
-- `known`: this is its queue; else nothing is done where it does not wait.
local function defer(id, queue, least, most, known)
  local base = base_of(id)
  local wait = math.max(tonumber(least), math.min(tonumber(most), (now - waiting_since(id)) / 4))
  local at = text(now + wait)
  if score(base .. 'due:' .. queue, id) or (known and score(base .. 'queued', id)) then
    redis.call('ZADD', base .. 'due:' .. queue, at, id)
  elseif redis.call('ZSCORE', ns .. ':due:' .. queue, id) then
    redis.call('ZADD', ns .. ':due:' .. queue, at, id)
  end
  return at
end

-- Count a failed attempt. Returns true if the job is over with it.
local function count_failure(id, err)
  local failures = redis.call('HINCRBY', job_key(id), 'failures', 1)
  if failures < conf.attempts then return false end
  local decoded = cjson.decode(err)
  finish(id, 'failed', error_text(decoded.code,
    'given up after ' .. failures .. ' attempts; the last: ' .. decoded.message, false))
  return true
end

-- A lease ended without a word from its worker.
local function lost(id)
  local worker = get(id, 'worker') or '?'
  local err = error_text('worker_lost',
    'worker ' .. worker .. ' went silent while it ran this job', true)
  redis.call('HSET', job_key(id), 'error', err)
  redis.call('HDEL', job_key(id), 'token')
  if count_failure(id, err) then return false end
  wait_until(id, 'queued', now)
  event(id, 'state', {error = err})
  return true
end

local function cancelled(id)
  finish(id, 'cancelled', error_text('cancelled', 'cancelled on request', false))
end

local function superseded(id)
  finish(id, 'cancelled', error_text('superseded',
    'a newer push to the same reference was submitted while this one waited to be retried', false))
end

-- Whether a worker still holds the claim it was given.
local function holds(id, fence, token)
  local record = redis.call('HMGET', job_key(id), 'state', 'fence', 'token')
  return record[1] == 'running' and record[2] == fence and record[3] == token
end

local function wants_cancel(id)
  if redis.call('EXISTS', base_of(id) .. 'cancel:' .. id) == 1 then return true end
  local migration, key = migration_of(id)
  return migration ~= nil and (redis.call('HEXISTS', key, 'cancel') == 1
    or redis.call('EXISTS', base_of(migration) .. 'cancel:' .. migration) == 1)
end

-- No image is larger (1 PiB): what a manifest of anybody's says must not overflow the totals.
local function bounded(bytes) return math.max(-2 ^ 50, math.min(2 ^ 50, bytes)) end

local function add_bytes(key, name, bytes)
  -- Redis refuses what it cannot count, and that must end nothing else.
  if bytes ~= 0 then redis.pcall('HINCRBY', key, 'bytes_' .. name, text(bytes)) end
end

-- Bytes of a migration follow what its jobs tell of themselves. What an earlier attempt sent
-- stays sent, and is not counted again as having been there.
local function tell_bytes(id, text_of_progress)
  local migration, key = migration_of(id)
  if not migration then return end
  local progress = cjson.decode(text_of_progress)
  local before = redis.call('HMGET', job_key(id), 'told_moved', 'told_mounted', 'told_present',
    'told_total', 'moved_before')
  for i = 1, 5 do before[i] = tonumber(before[i] or '0') end
  local mounted, present = bounded(progress.bytes_mounted or 0), progress.bytes_present or 0
  local moved = bounded(progress.bytes_done - mounted - present)
  present = bounded(math.max(0, present - before[5]))
  local total = math.max(before[4], bounded(progress.bytes_total))
  local changes = {
    moved = moved - before[1], mounted = mounted - before[2], present = present - before[3],
    planned = total - before[4],
  }
  for name, change in pairs(changes) do add_bytes(key, name, change) end
  redis.call('HSET', job_key(id), 'told_moved', text(moved), 'told_mounted', text(mounted),
    'told_present', text(present), 'told_total', text(total))
end

-- A new attempt tells its bytes anew.
local function forget_bytes(id)
  local migration, key = migration_of(id)
  if not migration then return end
  local told = redis.call('HMGET', job_key(id), 'told_moved', 'told_mounted', 'told_present')
  if told[2] then add_bytes(key, 'mounted', 0 - told[2]) end
  if told[3] then add_bytes(key, 'present', 0 - told[3]) end
  if told[1] then redis.call('HINCRBY', job_key(id), 'moved_before', told[1]) end
  redis.call('HDEL', job_key(id), 'told_moved', 'told_mounted', 'told_present')
end

-- Put jobs of a migration on the queue as long as its window has room; returns those to ring
-- for: {id, queue, attempt, image}.
local function release(migration)
  local key = ns .. ':migration:' .. migration
  local pending = key .. ':pending'
  local waiting = redis.call('LLEN', pending)
  if waiting == 0 then return {} end
  -- Those that wait for a registry that is paused take no room from images of others, up to a
  -- limit: they all come back at once.
  local active = counted(key, 'queued', 'running') - waiting
  local room = math.min(conf.window - active,
    conf.window + conf.postponed - active - counted(key, 'retrying'))
  local found = {}
  while room > 0 do
    local id = redis.call('LPOP', pending)
    if not id then break end
    local record = redis.call('HMGET', job_key(id), 'state', 'queue', 'image', 'on_behalf_of')
    if record[1] == 'queued' then
      local order = text(time[1] * 1000000 + time[2] + #found)
      redis.pcall('ZADD', base_of(id) .. 'target:' .. record[3], order, id)
      know(id)
      redis.call('HSET', job_key(id), 'since', text(now))
      redis.call('ZADD', ns .. ':due:' .. record[2], text(now + 10000), id)
      found[#found + 1] = {id, record[2], 1, by(id, record[3], record[4])}
      room = room - 1
    end
  end
  return found
end

-- Jobs of a cancelled migration that are not on the queue end at once, so many at a time.
local function drop_pending(migration, most)
  for _ = 1, most do
    local id = redis.call('LPOP', ns .. ':migration:' .. migration .. ':pending')
    if not id then return end
    if get(id, 'state') == 'queued' then cancelled(id) end
  end
end
