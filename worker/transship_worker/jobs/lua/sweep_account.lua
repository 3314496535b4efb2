-- A part of a sweep: what one account wrote and no worker claimed in time, and entries of its sets
-- that are no jobs. ARGV: conf, account, most that expire, how many entries of each set are looked at,
-- then pairs: the set, the rank to begin at.
-- Returns {{id, queue, attempt}, …} to ring, how many expired, whether more may, then for each set
-- the rank to go on at, and how many entries were thrown out of all.
local account, most, many = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local base = from(account)
local ring, expired, foul, unrouted = {}, 0, {}, {}

-- No request is read: whoever wrote it must not stop the one that all rely on.
local function expire(id)
  if redis.call('EXISTS', job_key(id)) == 1 then return end
  local queue, image = route_of(id)
  adopt(id, queue, image or '?', '?', nil)
  if not queue then unrouted[#unrouted + 1] = id end
  if wants_cancel(id) then cancelled(id) else
    finish(id, 'failed', error_text('expired', 'no worker started it in time', false))
  end
  expired = expired + 1
  local head = image and head_of(image)
  if head then ring[#ring + 1] = {head, '', tonumber(get(head, 'failures') or '0') + 1} end
end

local function is_job(id)
  return names_job(id, account) and redis.call('EXISTS', base .. 'request:' .. id) == 1
end

local late = redis.pcall(
  'ZRANGEBYSCORE', base .. 'expiry', '-inf', text(now), 'LIMIT', 0, most)
local more = #late == most
for _, id in ipairs(late) do
  if is_job(id) then
    expire(id)
    redis.pcall('ZREM', base .. 'expiry', id)
    redis.pcall('ZREM', base .. 'queued', id)
  else
    foul[#foul + 1] = id
  end
end
if #unrouted > 0 then forget_dues(base, unrouted) end
throw_out(base .. 'expiry', foul, 'expiry_entry')
local thrown = #foul

local reply = {ring, expired, more and 1 or 0}
for place = 5, #ARGV, 2 do
  local key, rank = base .. ARGV[place], tonumber(ARGV[place + 1])
  local found = redis.pcall('ZRANGE', key, rank, rank + many - 1)
  foul = {}
  for _, id in ipairs(found) do
    if not is_job(id) then foul[#foul + 1] = id end
  end
  throw_out(key, foul, string.match(ARGV[place], '^%a+') .. '_entry')
  thrown = thrown + #foul
  reply[#reply + 1] = #found < many and 0 or rank + many - #foul
end
reply[#reply + 1] = thrown
return reply
