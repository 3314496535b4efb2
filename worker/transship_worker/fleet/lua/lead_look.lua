-- What became of blobs that copies of one process wait for.
-- ARGV: ns, lease, then for each wait: copy, registry, repository, digest.
-- Returns pairs of what is known and a repository, or the age of a hint (ms) with 'here'; 'lost' when the copy is dead by now.
local answers = {}
for index = 3, #ARGV, 4 do
  local copy, registry, repository, digest = unpack(ARGV, index, index + 3)
  local where, from = 'lost', ''
  if number_of(copy) then
    where, from = hinted(registry, repository, digest)
    if where then
      leave(copy, registry, repository, digest)
    else
      where, from = turn(copy, scope_of(registry, repository), digest), ''
    end
  end
  answers[#answers + 1] = where
  answers[#answers + 1] = from
end
return answers
