-- Write a request, unless an equal one of this account was never claimed yet and is the newest
-- for its target.
-- ARGV: prefix of the account's keys, account, id, request, queue, target reference, fingerprint
--       (empty: nothing is equal to it), expiry (ms from now), first ring (ms from now)
-- Returns {id, deduplicated (0 or 1), time in ms}.
local base, account, id, request, queue = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local reference, fingerprint = ARGV[6], ARGV[7]
local expires, ring = tonumber(ARGV[8]), tonumber(ARGV[9])
-- Sets of accounts: those whose names producers added, and those that workers know. They are no
-- arguments: all members of the second are read, and a caller could name a set of its own.
local accounts, known = '@NAMESPACE@:accounts', '@NAMESPACE@:accounts:known'
local time = redis.call('TIME')
local us = time[1] * 1000000 + time[2]
local ms = math.floor(us / 1000)

-- The answer to this very submit was lost, and the client sends it again.
if redis.call('EXISTS', base .. 'request:' .. id) == 1 then return {id, 0, ms} end

local target = base .. 'target:' .. reference

-- Whether no job of any account for this target was submitted after that one. If one was, this
-- submit is the newest wish for the target, and must run after it. What a narrow account may not see
-- of another one counts as submitted.
local function is_last(other)
  local order = tonumber(redis.call('ZSCORE', target, other) or 0)
  -- Anybody may add names to the first one: some of it are read, by chance.
  for _, names in ipairs({redis.call('SRANDMEMBER', accounts, 50), redis.call('SMEMBERS', known)}) do
    for _, name in ipairs(names) do
      local last = redis.pcall(
        'ZREVRANGE', '@NAMESPACE@:from:' .. name .. ':target:' .. reference, 0, 0, 'WITHSCORES')
      if last.err and not string.find(last.err, 'WRONGTYPE', 1, true) then return false end
      if last[1] and last[1] ~= other and tonumber(last[2]) > order then return false end
    end
  end
  return true
end

local same = base .. 'same:' .. fingerprint
-- An id is shorter; what else is there may be of any length.
local other = fingerprint ~= '' and redis.call('GETRANGE', same, 0, 63)
if other and other ~= '' and redis.call('ZSCORE', base .. 'queued', other)
    and redis.call('EXISTS', base .. 'request:' .. other) == 1 and is_last(other) then
  return {other, 1, ms}
end

-- Order among jobs for one target never ties, whatever the clock does.
local last = redis.call('ZREVRANGE', target, 0, 0, 'WITHSCORES')
if last[2] and tonumber(last[2]) >= us then us = tonumber(last[2]) + 1 end

redis.call('SET', base .. 'request:' .. id, request)
-- What the reaper needs to know, which reads no request.
redis.call('SET', base .. 'route:' .. id, queue .. ' ' .. reference)
if fingerprint ~= '' then redis.call('SET', same, id, 'PX', expires) end
redis.call('ZADD', base .. 'queued', string.format('%.0f', ms), id)
redis.call('ZADD', base .. 'expiry', string.format('%.0f', ms + expires), id)
redis.call('ZADD', base .. 'due:' .. queue, string.format('%.0f', ms + ring), id)
redis.call('ZADD', target, string.format('%.0f', us), id)
redis.call('SADD', accounts, account)
return {id, 0, ms}
