-- Renew the copies of one process. ARGV: ns, lease, copies. Returns a number for each: 0 is dead.
-- A dead one is never revived: others may lead by now what it led.
local alive = {}
for index = 3, #ARGV do
  alive[#alive + 1] = redis.call('PEXPIRE', copy_key(ARGV[index]), lease)
end
return alive
