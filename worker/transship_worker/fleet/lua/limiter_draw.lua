-- Draw from the rate of a registry. ARGV: process, its rate, what it was served, `since`, how many
-- requests, the ceiling (1/s; 0: none), and how far ahead a draw may be (us).
-- Returns for how long the limiter lives (ms; 0: there is none), how long to wait (us), the rate
-- (1/1000 s), 1 if the requests may be sent after the wait (0: ask again then), and `since`. So what
-- a process drew before it died holds up the others by one request's time at most, and who waits long
-- gets the rate that holds by then.
if #flat == 0 then return {0, 0, 0, 0, 0} end
local many, ceiling, ahead = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
join()
local function pace()
  local found = rate()
  if ceiling > 0 then found = math.min(found, ceiling) end
  return found
end
local function next_start() return number('last') + number('many') * 1000000 / pace() end
-- A process that wakes late (us) does not lose the time.
local earliest = now - 50000
-- The rate grows while it is in demand. What nobody uses, or nobody may, proves nothing.
if next_start() > earliest and number('free') <= now then
  set('grown', number('grown') + math.min(now - number('seen'), 2000000))
end
set('seen', now)
local start = math.max(earliest, number('free'), next_start())
local granted = start - now <= ahead
local wait = math.max(start - now - (granted and 0 or ahead), 0)
if granted then
  count('g', many)
  set('last', start)
  set('many', many)
end
redis.call('HSET', key, unpack(changed))
return {
  redis.call('PTTL', key), string.format('%.0f', wait), string.format('%.0f', pace() * 1000),
  granted and 1 or 0, string.format('%.0f', number('since'))
}
