-- Some lines of a list that a producer wrote, none of them longer than a row can be.
-- ARGV: list, first, last, most bytes of a line. A longer one comes cut off, a byte too long.
local found = redis.call('LRANGE', ARGV[1], ARGV[2], ARGV[3])
local most = tonumber(ARGV[4])
for index, line in ipairs(found) do
  if #line > most then found[index] = string.sub(line, 1, most + 1) end
end
return found
