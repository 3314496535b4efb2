-- Take the locks of mounts into one repository, but of those blobs that it is said to hold by now.
-- ARGV: token, for how long at most (ms), repository, then for each blob: lock, key of its hints.
-- Returns for each blob 'here', 'mine' or 'theirs'.
local found = {}
for index = 4, #ARGV, 2 do
  local lock, hints = ARGV[index], ARGV[index + 1]
  if redis.call('ZSCORE', hints, ARGV[3]) then
    found[#found + 1] = 'here'
  -- The same token again has it already: the first answer was lost.
  elseif redis.call('SET', lock, ARGV[1], 'NX', 'PX', ARGV[2])
      or redis.call('GET', lock) == ARGV[1] then
    found[#found + 1] = 'mine'
  else
    found[#found + 1] = 'theirs'
  end
end
return found
