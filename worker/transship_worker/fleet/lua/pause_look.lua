-- What concerns all requests to some registries. KEYS: their pauses, then their rate limiters;
-- ARGV[1]: how many of them are pauses (all, if it is left out).
-- Returns Redis's time (ms), what stands in each pause ("END REASON", or nothing), and for how long
-- each rate limiter lives (ms; below 1: there is none).
local time = redis.call('TIME')
local pauses = tonumber(ARGV[1]) or #KEYS
local reply = {string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))}
for _, found in ipairs(redis.call('MGET', unpack(KEYS, 1, pauses))) do
  reply[#reply + 1] = found or ''
end
for at = pauses + 1, #KEYS do reply[#reply + 1] = redis.call('PTTL', KEYS[at]) end
return reply
