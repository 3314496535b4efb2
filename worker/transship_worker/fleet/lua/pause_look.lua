-- Redis's time (ms), and then what stands in each of KEYS: "END REASON", or nothing.
local time = redis.call('TIME')
local reply = {string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))}
for _, found in ipairs(redis.call('MGET', unpack(KEYS))) do reply[#reply + 1] = found or '' end
return reply
