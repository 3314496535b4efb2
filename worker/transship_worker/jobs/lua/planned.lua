-- All rows of a migration are known. ARGV: conf, id, fence and token of the planning's claim,
-- what else to keep (JSON: field → text). Returns 1, or 0 when the claim does not hold.
local migration, fence, token = ARGV[2], ARGV[3], ARGV[4]
if not holds(migration, fence, token) then return 0 end
local key = ns .. ':migration:' .. migration
for field, value in pairs(cjson.decode(ARGV[5])) do redis.call('HSET', key, field, value) end
redis.call('HSET', key, 'complete', 1)
settle(migration)
return 1
