-- Renew, take and give back one process's permits for transfers, at all registries at once.
-- KEYS: for each the permits and the line. ARGV: the process, the life of a permit and of a
-- place in line (ms); then for each its limit, and how many transfers run and wait here.
-- Returns for each: how many may run here now, how many of them are this process's fair share,
-- and whether others wait (1 or 0).
-- A member of the permits is PROCESS/NUMBER; a field of the line is a process, with its time of
-- joining and its end (ms).
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local process, life, patience = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local function text(number) return string.format('%.0f', number) end

local function holders(key)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', text(now))
  local mine, others, names = {}, 0, {}
  for _, member in ipairs(redis.call('ZRANGE', key, 0, -1)) do
    local name = string.match(member, '^(.*)/%d+$') or member
    if name == process then
      mine[#mine + 1] = member
    else
      others = others + 1
      names[name] = true
    end
  end
  return mine, others, names
end

local function waiters(key)
  local since, found = nil, {}
  local flat = redis.call('HGETALL', key)
  for at = 1, #flat, 2 do
    local joined, ends = string.match(flat[at + 1], '^(%d+) (%d+)$')
    if not ends or tonumber(ends) <= now then
      redis.call('HDEL', key, flat[at])
    elseif flat[at] == process then
      since = tonumber(joined)
    else
      found[flat[at]] = tonumber(joined)
    end
  end
  return since, found
end

-- How many may run here. While others wait, no more than an even share, and of what the even
-- shares leave over, no more than those leave who joined the line earlier.
local function allowed(limit, want, others, share, ahead, contended)
  local room = math.max(0, limit - others)
  if not contended then return math.min(want, room) end
  local fair = math.min(want, share)
  return math.min(want, room, fair + math.max(0, room - fair - ahead))
end

local reply = {}
for at = 1, #KEYS, 2 do
  local held, line, first = KEYS[at], KEYS[at + 1], 4 + (at - 1) / 2 * 3
  local limit, running = tonumber(ARGV[first]), tonumber(ARGV[first + 1])
  local want = running + tonumber(ARGV[first + 2])
  local mine, others, names = holders(held)
  local since, found = waiters(line)
  local joined, ahead, contended = since or now, 0, false
  for name, their in pairs(found) do
    contended = true
    names[name] = true
    if their < joined or (their == joined and name < process) then ahead = ahead + 1 end
  end
  local processes = 1
  for _ in pairs(names) do processes = processes + 1 end
  local share = math.floor(limit / processes)
  local may = allowed(limit, want, others, share, ahead, contended)

  local keep = math.max(may, running)
  for number = 1, math.max(keep, #mine) do
    if number <= keep then
      redis.call('ZADD', held, text(now + life), process .. '/' .. number)
    else
      redis.call('ZREM', held, process .. '/' .. number)
    end
  end
  if keep > 0 then redis.call('PEXPIRE', held, text(life)) end

  if want > keep then
    -- Who begins another transfer goes to the end of the line.
    if may > running then joined = now end
    redis.call('HSET', line, process, text(joined) .. ' ' .. text(now + patience))
    redis.call('PEXPIRE', line, text(patience))
  else
    redis.call('HDEL', line, process)
  end
  reply[#reply + 1] = {may, math.min(want, share), contended and 1 or 0}
end
return reply
