-- A part of a sweep: which bells to ring for one queue.
-- ARGV: conf, queue, most bells, seconds between two bells for one job: least, most; then accounts.
-- Returns {{id, queue, attempt}, …} to ring, and how many entries were thrown out.
local queue, most = ARGV[2], tonumber(ARGV[3])
local least_ms, most_ms = ARGV[4] * 1000, ARGV[5] * 1000
local ring, thrown = {}, 0

-- The workers' own list of waiting jobs, and each account's.
local lists = {{ns .. ':due:' .. queue, nil}}
for place = 6, #ARGV do
  lists[#lists + 1] = {from(ARGV[place]) .. 'due:' .. queue, ARGV[place]}
end
local due = 0
for _, list in ipairs(lists) do
  local count = redis.pcall('ZCOUNT', list[1], '-inf', text(now))
  if type(count) == 'number' then due = due + count end
end
-- Jobs that rightly wait have a bell in the queue already and are not rung again.
local bells = redis.pcall('LLEN', ns .. ':celery:' .. queue)
local missing = math.min(most, due - (type(bells) == 'number' and bells or 0))

-- A job that waits in the workers' own list, and nobody can run any more: its migration must end.
local function gone(id)
  redis.call('ZREM', lists[1][1], id)
  local state = get(id, 'state')
  if state == 'queued' or state == 'retrying' then
    finish(id, 'failed', error_text('invalid_request', 'its request is gone', false))
  end
end

for _, list in ipairs(lists) do
  local key, account = list[1], list[2]
  local limit = math.min(missing, looks)
  if limit <= 0 then break end
  local foul = {}
  for _, id in ipairs(redis.pcall(
      'ZRANGEBYSCORE', key, '-inf', text(now), 'LIMIT', 0, limit)) do
    local base = base_of(id)
    if account and not names_job(id, account) then
      foul[#foul + 1] = id
    elseif redis.call('EXISTS', base .. 'request:' .. id) == 0 then
      if account then foul[#foul + 1] = id else guarded(gone, id, key) end
    elseif account and redis.call('EXISTS', job_key(id)) == 1
        and redis.call('EXISTS', base .. 'retry:' .. id) == 0 then
      -- It has a record, and with it a place in the workers' own list.
      redis.call('ZREM', key, id)
    else
      local wait = math.max(least_ms, math.min(most_ms, (now - waiting_since(id)) / 2))
      redis.call('ZADD', key, text(now + wait), id)
      ring[#ring + 1] = {id, queue, tonumber(get(id, 'failures') or '0') + 1, display_of(id)}
      missing = missing - 1
    end
    looks = looks - 1
  end
  throw_out(key, foul, 'due_entry')
  thrown = thrown + #foul
end
return {ring, thrown}
