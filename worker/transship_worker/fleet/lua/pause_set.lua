-- Pause a registry: KEYS[1] the pause, KEYS[2] the budget. ARGV: for how long (ms; 0: nobody
-- said), the reason, the first and the longest wait where nobody said (ms), and for how long
-- after its end such a pause is remembered at least (ms).
-- A pause is never cut short. Returns Redis's time (ms) and what stands there now.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function text(number) return string.format('%.0f', number) end
local left = redis.call('PTTL', KEYS[1])
local wait = tonumber(ARGV[1])
if wait == 0 and left <= 0 then
  -- It repeats: twice as long. What was asked before the pause and is answered during it is no
  -- repetition.
  local last = redis.call('HMGET', KEYS[2], 'pause', 'pause_until')
  wait = tonumber(ARGV[3])
  if now < (tonumber(last[2] or '0') or 0) then
    wait = math.min((tonumber(last[1] or '0') or 0) * 2, tonumber(ARGV[4]))
  end
  local known = wait + math.max(wait, tonumber(ARGV[5]))
  redis.call('HSET', KEYS[2], 'pause', text(wait), 'pause_until', text(now + known))
  if redis.call('PTTL', KEYS[2]) < known then redis.call('PEXPIRE', KEYS[2], text(known)) end
end
if wait > left then
  redis.call('SET', KEYS[1], text(now + wait) .. ' ' .. ARGV[2], 'PX', text(wait))
end
return {text(now), redis.call('GET', KEYS[1]) or ''}
