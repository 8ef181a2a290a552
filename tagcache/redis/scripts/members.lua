local skip, number = tonumber(ARGV[3]), tonumber(ARGV[4])
local rest = from(5)
local tags, others = {}, {}
for i, tag in ipairs(rest) do
    if i <= number then tags[#tags + 1] = tag else others[#others + 1] = tag end
end
local keys, cursor = {}, '0'
if ARGV[2] == '0' and redis.call('ZCARD', carriers(tags[1])) <= tonumber(ARGV[1]) then
    keys = redis.call('ZRANGE', carriers(tags[1]), 0, -1)
else
    local page = redis.call('ZSCAN', carriers(tags[1]), ARGV[2], 'COUNT', ARGV[1])
    cursor = page[1]
    for i = 1, #page[2], 2 do keys[#keys + 1] = page[2][i] end
end
local rows, skipped = {}, 0
for _, key in ipairs(keys) do
    local meta = read(key)
    if meta and carries_all(meta, tags) and not carries_any(meta, others) and is_live(key, meta) then
        if skipped < skip then skipped = skipped + 1 else rows[#rows + 1] = row(key, meta) end
    end
end
return {cursor, rows, skipped}
