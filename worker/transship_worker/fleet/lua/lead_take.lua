-- Look all blobs of an image up and lead those that are free, in one step.
-- ARGV: ns, lease, copy, known (1: it took before, and lives), registry, repository, digests.
-- Returns pairs of what is known and a repository, or the age of a hint (ms) with 'here'; {'lost'} when the copy is dead by now.
local copy, known, registry, repository = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
if known == '1' and not number_of(copy) then return {'lost'} end
local scope = scope_of(registry, repository)
local answers, open = {}, {}
local number = time[1] * 1000000 + time[2]

for index = 7, #ARGV do
  local at = (index - 7) * 2 + 1
  local where, from = hinted(registry, repository, ARGV[index])
  answers[at], answers[at + 1] = where or '', from or ''
  if not where then
    open[#open + 1] = index
    -- Later than all it meets, even if the clock was set back.
    local lead, line = keys_of(scope, ARGV[index])
    local leader = leader_of(lead)
    if leader then number = math.max(number, number_of(leader) + 1) end
    local last = redis.call('ZREVRANGE', line, 0, 0, 'WITHSCORES')[2]
    if last then number = math.max(number, tonumber(last) + 1) end
  end
end

if #open > 0 then
  -- A copy keeps the number of its first take: others may wait for it by that.
  numbers[copy] = number_of(copy) or number
  redis.call('SET', copy_key(copy), text(numbers[copy]), 'PX', lease)
end
for _, index in ipairs(open) do
  answers[(index - 7) * 2 + 1] = turn(copy, scope, ARGV[index])
end
return answers
