local at, soft, tags, keys = tonumber(ARGV[3]), ARGV[4] ~= '', from(5), {}
allow_oom()
local page = redis.call('ZSCAN', carriers(tags[1]), ARGV[2], 'COUNT', ARGV[1])
for i = 1, #page[2], 2 do keys[#keys + 1] = page[2][i] end
local removed = #remove_older(keys, at, tags, soft)
count('invalidations', removed)
return {removed, page[1]}
