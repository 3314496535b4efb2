-- Draw a batch from a budget: KEYS[1] the budget; ARGV: its field, its rate (1/s), how many.
-- The field holds the time (µs) from which the next batch may be used. A batch may be used from
-- where the last one ended, so that whoever asks first goes first and nobody has to ask again.
-- Returns how long to wait (µs).
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local free = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0') or 0
local start = math.max(now, free)
local after = start + tonumber(ARGV[3]) * 1000000 / tonumber(ARGV[2])
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', after))
local life = math.ceil((after - now) / 1000) + 1000
if redis.call('PTTL', KEYS[1]) < life then
  redis.call('PEXPIRE', KEYS[1], string.format('%.0f', life))
end
return string.format('%.0f', start - now)
