-- Take the lock of a mount, unless the repository is said to hold the blob by now.
-- ARGV: lock, token, for how long at most (ms), key of the blob's hints, repository.
-- Returns 'here', 'mine' or 'theirs'.
if redis.call('ZSCORE', ARGV[4], ARGV[5]) then return 'here' end
-- The same token again has it already: the first answer was lost.
if redis.call('SET', ARGV[1], ARGV[2], 'NX', 'PX', ARGV[3])
    or redis.call('GET', ARGV[1]) == ARGV[2] then
  return 'mine'
end
return 'theirs'
