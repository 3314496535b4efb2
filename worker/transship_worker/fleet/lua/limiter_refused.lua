-- A registry refused a request for its rate. ARGV: process, its rate, what it was served, `since`,
-- the wait that the registry named (us; 0: none), the rate to begin with where no process was
-- answered (1/s), and how long the limiter lives after a refusal (ms).
-- Returns for how long it lives (ms), 1 if it was made just now, the rate (1/1000 s), and `since`.
local named, first, life = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local made = #flat == 0
if made then
  set('limit', 0)
  set('base', math.max(served > 0 and served or first, LEAST))
  set('since', now)
  set('started', now)
  set('seen', now)
  set('grown', 0)
  set('p:' .. process, 1)
  -- What it allows in a second was used up by now.
  set('free', now + math.min(math.max(named, 250000), 1000000))
else
  join()
  -- Requests that were on their way when the limiter was made are not its fault.
  if now - number('started') > 2000000 then count('r', 1) end
  set('bad', number('bad') + 1)
  if now - number('since') >= 1000000 then
    local refused_at = rate()
    local down = FACTOR * refused_at
    if number('good') >= number('bad') then
      set('was', number('limit'))
      set('limit', refused_at)
    elseif number('good') == 0 then
      -- It serves nothing, however slowly it is asked: that says nothing of the rate that it will
      -- serve again, nor did the refusal with which that began. It is asked once within about DOUBLE.
      down = refused_at / 2
      local was = number('was')
      if state['was'] and (was == 0 or was > number('limit')) then set('limit', was) end
    end
    local granted, refused = number('g0') + number('g1'), number('r0') + number('r1')
    if refused >= 3 and refused > granted / 2 then
      -- It serves far less: go on at what it does serve, after the time that it named.
      local span = 1 + now % 1000000 / 1000000
      down = math.min(down, math.max((granted - refused) / span, down / 4))
      set('free', math.max(number('free'), now + named))
    end
    set('base', math.max(down, LEAST))
    set('since', now)
    set('grown', 0)
    set('good', 0)
    set('bad', 0)
  end
end
if #changed > 0 then redis.call('HSET', key, unpack(changed)) end
redis.call('PEXPIRE', key, life)
return {
  life, made and 1 or 0, string.format('%.0f', rate() * 1000),
  string.format('%.0f', number('since'))
}
