-- ARGV: how many, cursor, tag, further tags to be carried. Returns the next cursor and rows.
local tag, tags, keys, cursor = ARGV[3], from(3), {}, '0'
if ARGV[2] == '0' and redis.call('ZCARD', carriers(tag)) <= tonumber(ARGV[1]) then
    keys = redis.call('ZRANGE', carriers(tag), 0, -1)
else
    local page = redis.call('ZSCAN', carriers(tag), ARGV[2], 'COUNT', ARGV[1])
    cursor = page[1]
    for i = 1, #page[2], 2 do keys[#keys + 1] = page[2][i] end
end
local rows = {}
for _, key in ipairs(keys) do
    local meta = read(key)
    if meta and carries_all(meta, tags) and is_live(key, meta) then
        rows[#rows + 1] = row(key, meta)
    end
end
return {cursor, rows}
