-- What the scripts of leads share. ARGV[1] is the namespace, ARGV[2] a copy's lease (ms).
-- A registry is HOST[:PORT], or SCOPE@HOST[:PORT] for copies that hints and leases of that scope
-- serve. No host and no repository has an @.
-- Redis's clock is the only clock. Hints have ms since 1970; the number of a copy is about the
-- µs since 1970 at its take, and always above those of all copies that the take met.
local ns, lease = ARGV[1], tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Leads and lines end with their copies; this only sweeps up after dead ones. A day, in ms.
local KEEP = 86400000

local function text(number) return string.format('%.0f', number) end
local function copy_key(copy) return ns .. ':copy:' .. copy end

-- The number of a copy that lives, or nil: its leads and its places in line died with it.
local numbers = {}
local function number_of(copy)
  if numbers[copy] == nil then
    numbers[copy] = tonumber(redis.call('GET', copy_key(copy))) or false
  end
  return numbers[copy] or nil
end

local function bare(name) return (name:match('[^@]*$')) end

local refusals = {}
local function refuses_mounts(registry)
  if refusals[registry] == nil then
    refusals[registry] = redis.call('EXISTS', ns .. ':mounts:' .. bare(registry)) == 1
  end
  return refusals[registry]
end

-- Who can share a blob: a whole registry, or one repository where mounts are refused; of a scope,
-- if there is one.
local function scope_of(registry, repository)
  return refuses_mounts(registry) and registry .. '/' .. repository or registry
end

local function keys_of(scope, digest)
  -- A manifest has one writer at a time, of whatever scope: whoever waits then looks whether it is
  -- in its own repository.
  if digest:sub(1, 9) == 'manifest/' then scope = bare(scope) end
  return ns .. ':lead:' .. scope .. ':' .. digest, ns .. ':line:' .. scope .. ':' .. digest
end

-- What hints say of a blob: 'here' and how old that hint is (ms), or 'elsewhere' and the freshest
-- repository, or nil.
local function hinted(registry, repository, digest)
  local key = ns .. ':blob:' .. registry .. ':' .. digest
  local freshest = redis.call('ZREVRANGE', key, 0, 0)[1]
  if not freshest then return nil end
  local written = redis.call('ZSCORE', key, repository)
  if written then return 'here', text(math.max(0, now - tonumber(written))) end
  if not refuses_mounts(registry) then return 'elsewhere', freshest end
end

local function leader_of(lead)
  local copy = redis.call('GET', lead)
  return copy and number_of(copy) and copy or nil
end

-- The copy that waits longest, or nil; dead ones leave the line.
local function first_of(line)
  while true do
    local first = redis.call('ZRANGE', line, 0, 0)[1]
    if not first or number_of(first) then return first end
    redis.call('ZREM', line, first)
  end
end

-- Whose turn a blob is that nobody has: 'lead', or 'wait' with a place in line. A copy waits
-- only for copies with a lower number, so that no circle can come about; rather than wait for
-- a higher one it uploads beside it, without the lead.
local function turn(copy, scope, digest)
  local lead, line = keys_of(scope, digest)
  local number = number_of(copy)
  local leader = leader_of(lead)
  local ahead = leader or first_of(line)
  if ahead and ahead ~= copy and number_of(ahead) < number then
    if redis.call('ZADD', line, 'NX', text(number), copy) == 1 then
      redis.call('PEXPIRE', line, KEEP)
    end
    return 'wait'
  end
  if not leader then redis.call('SET', lead, copy, 'PX', KEEP) end
  redis.call('ZREM', line, copy)
  return 'lead'
end

-- A copy leads a blob no more, and waits for it no more, whoever can share it.
local function leave(copy, registry, repository, digest)
  for _, scope in ipairs({registry, registry .. '/' .. repository}) do
    local lead, line = keys_of(scope, digest)
    if redis.call('GET', lead) == copy then redis.call('DEL', lead) end
    redis.call('ZREM', line, copy)
  end
end
