-- Draw from the rate of a registry. ARGV: process, its rate, how many requests, the ceiling (1/s;
-- 0: none).
-- Returns for how long the limiter lives (ms; 0: there is none), how long to wait (us), and the
-- rate (1/1000 s).
if #flat == 0 then return {0, 0, 0} end
local many, ceiling = tonumber(ARGV[3]), tonumber(ARGV[4])
join()
local free = number('free')
-- A process that wakes late (us) does not lose the time.
local earliest = now - 50000
-- The rate grows while it is in demand. What nobody uses proves nothing.
if free > earliest then set('grown', number('grown') + math.min(now - number('seen'), 1000000)) end
set('seen', now)
count('g', many)
local pace = rate()
if ceiling > 0 then pace = math.min(pace, ceiling) end
local start = math.max(earliest, free)
set('free', start + many * 1000000 / pace)
redis.call('HSET', key, unpack(changed))
return {
  redis.call('PTTL', key), string.format('%.0f', math.max(start - now, 0)),
  string.format('%.0f', pace * 1000)
}
