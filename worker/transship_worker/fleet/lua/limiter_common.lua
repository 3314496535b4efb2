-- What the scripts of the rate limiter share. KEYS[1] is the limiter of a registry and login: a
-- hash that is there from the first 429 on. ARGV[1] names the process, ARGV[2] is the rate (1/s)
-- at which the registry answered it of late, ARGV[3] how many requests the registry served to it
-- since it last told, and ARGV[4] the `since` that it knew by then.
-- Fields: `limit` the rate at which the registry began to refuse what it had served until then (0:
-- not since the limiter was made), `was` the one before it, `base` the rate right after the last
-- refusal that lowered it, all 1/s; `since` when that was, `good` and `bad` how many were served and
-- refused from then on; `started` when the limiter was made, `seen` when somebody last wanted to
-- draw, `grown` for how long the rate was in demand since `since`, `free` before when no request may
-- be sent, `last` and `many` from when the last draw may be used and how many requests it was; all
-- times in us; `second` with `g0`, `g1`, `r0`, `r1` how many were granted and refused in this second
-- and the one before; `p:PROCESS` who told its rate.
local key, process, served = KEYS[1], ARGV[1], tonumber(ARGV[2]) or 0
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

-- Only while requests wait for it the rate grows. The first one is the one at which the registry
-- answered, which may be much too low: it doubles within DOUBLE (us) until the registry refuses
-- again. After a refusal the rate goes down by FACTOR, and takes CLIMB (us) to be what it was; from
-- then on it grows beyond, ever faster (as TCP CUBIC does, RFC 9438). A rate that fell further
-- doubles until it is at FACTOR of `limit` (as slow start does, RFC 5681): a registry that refused
-- everything for some seconds is not asked slowly for minutes. No registry is asked slower or
-- faster than LEAST and MOST (1/s).
local FACTOR, DOUBLE, CLIMB, LEAST, MOST = 0.8, 4000000, 15000000, 0.1, 100000
-- A process tells its rate within this time (us) of the first refusal.
local START = 3000000

local state = {}
local flat = redis.call('HGETALL', key)
for at = 1, #flat, 2 do state[flat[at]] = flat[at + 1] end
local function number(name) return tonumber(state[name] or '0') or 0 end

local changed = {}
local function set(name, value)
  local text = string.format('%.6f', value)
  state[name] = text
  changed[#changed + 1] = name
  changed[#changed + 1] = text
end

local function rate()
  local limit, base, grown = number('limit'), math.max(number('base'), LEAST), number('grown')
  local found = base * 2 ^ math.min(grown / DOUBLE, 20)
  local low = FACTOR * limit
  if limit > 0 and found >= low then
    if base < low then grown = grown - DOUBLE * math.log(low / base) / math.log(2) end
    found = limit + (limit - low) * ((grown - CLIMB) / CLIMB) ^ 3
  end
  return math.min(math.max(found, LEAST), MOST)
end

-- Each process adds what it was served: nobody counted that of all of them.
local function join()
  if state['p:' .. process] == nil and now - number('started') <= START then
    if number('limit') == 0 then set('base', number('base') + served) end
    set('p:' .. process, 1)
  end
  local good = tonumber(ARGV[3]) or 0
  -- What was served before the last refusal and is told now says nothing of the rate since.
  if good > 0 and tonumber(ARGV[4]) == number('since') then set('good', number('good') + good) end
end

local function count(name, more)
  local second = math.floor(now / 1000000)
  local last = number('second')
  if second ~= last then
    for _, kind in ipairs({'g', 'r'}) do
      set(kind .. '1', second == last + 1 and number(kind .. '0') or 0)
      set(kind .. '0', 0)
    end
    set('second', second)
  end
  set(name .. '0', number(name .. '0') + more)
end
