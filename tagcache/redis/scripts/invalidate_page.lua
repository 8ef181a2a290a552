local at, soft, tags, removed = tonumber(ARGV[3]), ARGV[4] ~= '', from(5), 0
allow_oom()
local page = redis.call('ZSCAN', carriers(tags[1]), ARGV[2], 'COUNT', ARGV[1])
for i = 1, #page[2], 2 do
    if remove_older(page[2][i], at, tags, soft) then removed = removed + 1 end
end
count('invalidations', removed)
return {removed, page[1]}
