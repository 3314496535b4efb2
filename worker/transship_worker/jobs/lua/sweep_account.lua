-- A part of a sweep: what one account wrote and no worker claimed in time, and entries of its sets
-- that are no jobs. ARGV: conf, account, most that expire, how many entries of each set are looked at,
-- then pairs: the set, the rank to begin at.
-- Returns {{id, queue, attempt}, …} to ring, how many expired, whether more may, then for each set
-- the rank to go on at, and how many entries were thrown out of all.
local account, most, many = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local base = from(account)
local ring, expired, foul = {}, 0, {}
-- Bytes of requests that one script looks at.
local unread = 131072

-- A field of a request as a producer of ours writes it; nothing is parsed. Without a plain search a
-- long text would be gone through too slowly.
local function field(body, name, pattern)
  local at = string.find(body, '"' .. name .. '"', 1, true)
  return at and string.match(body, '^"' .. name .. '"%s*:%s*' .. pattern, at)
end

-- What the request says of its target and queue. A longer one is a specification.
local function read(id)
  local key = base .. 'request:' .. id
  local length = redis.pcall('STRLEN', key)
  if type(length) ~= 'number' then return '?', 'push.*' end
  if length > 65536 then return 'migration:' .. id, 'plan.*' end
  unread = unread - length
  local body = redis.call('GET', key)
  local kind = field(body, 'kind', '"(%l+)"')
  if kind == 'migration' then return 'migration:' .. id, 'plan.*' end
  local image = field(body, 'image', '"([^"\\]+)"') or '?'
  if kind == 'copy' then
    return image, field(body, 'migration', '"') and 'copy.bulk' or 'copy.*'
  end
  local engine = field(body, 'engine', '"([%w_.-]+)"') or '*'
  return image, (field(body, 'bulk', 'true') and 'bulk.' or 'push.') .. engine
end

local function expire(id)
  if redis.call('EXISTS', job_key(id)) == 1 then return end
  local image, queue = read(id)
  adopt(id, queue, image, '?', nil)
  if wants_cancel(id) then cancelled(id) else
    finish(id, 'failed', error_text('expired', 'no worker started it in time', false))
  end
  expired = expired + 1
  local head = head_of(image)
  if head then ring[#ring + 1] = {head, '', tonumber(get(head, 'failures') or '0') + 1} end
end

local function is_job(id)
  return names_job(id, account) and redis.call('EXISTS', base .. 'request:' .. id) == 1
end

local late = redis.pcall(
  'ZRANGEBYSCORE', base .. 'expiry', '-inf', text(now), 'LIMIT', 0, most)
local more = #late == most
for _, id in ipairs(late) do
  if unread <= 0 then
    more = true
    break
  elseif is_job(id) then
    expire(id)
    redis.pcall('ZREM', base .. 'expiry', id)
    redis.pcall('ZREM', base .. 'queued', id)
  else
    foul[#foul + 1] = id
  end
end
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
