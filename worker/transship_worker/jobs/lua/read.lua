-- Begin to read a request. It is marked before it leaves Redis, so that a worker that does not outlive
-- the reading leaves a trace; what ends the reading deletes the mark (claim, reject, defer, leave).
-- For its speed this stands alone, without common.lua, and does three things where nothing is wrong.
-- The mark: how many readers went silent before, this reading (a word), its worker. Since when it is
-- there is seen from how long it is kept.
-- ARGV: key of the request, key of the mark, key of the record, this reading, the worker, lease (ms),
--       attempts, how long a mark is kept (ms), the longest request (bytes), what a longer one begins
--       with, how long such a one may be (bytes; 0: not now)
-- Returns {'unknown'}, {'unreadable'}, {'long', bytes}, {'large'}, {'reading', worker},
--         {'lost', how often, worker}, {'read', body}.
local key, mark, owner = ARGV[1], ARGV[2], ARGV[4] .. ' ' .. ARGV[5]

local length = redis.pcall('STRLEN', key)
if type(length) ~= 'number' then return {'unreadable'} end
if length == 0 then return {redis.call('EXISTS', key) == 1 and 'unreadable' or 'unknown'} end
local longest = tonumber(ARGV[9])
if length > longest then
  local head, larger = ARGV[10], tonumber(ARGV[11])
  local most = redis.call('GETRANGE', key, 0, #head - 1) == head and larger or longest
  if most == 0 then return {'large'} end
  if length > most then return {'long', length} end
end

if not redis.call('SET', mark, '0 ' .. owner, 'NX', 'PX', ARGV[8]) then
  local before, other = string.match(redis.call('GET', mark), '^(%d+) (.*)$')
  -- Else the answer to this very call was lost, and the client asks again.
  if other ~= owner then
    local worker = string.match(other, ' (.*)$')
    if ARGV[8] - redis.call('PTTL', mark) < tonumber(ARGV[6]) then return {'reading', worker} end
    local lost = before + 1
    local failures = redis.pcall('HGET', ARGV[3], 'failures')
    failures = type(failures) == 'string' and tonumber(failures) or 0
    if failures + lost >= tonumber(ARGV[7]) then return {'lost', lost, worker} end
    redis.call('SET', mark, string.format('%d %s', lost, owner), 'PX', ARGV[8])
  end
end
return {'read', redis.call('GET', key)}
