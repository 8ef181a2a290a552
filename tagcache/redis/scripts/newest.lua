local wanted, prefix, skip = tonumber(ARGV[1]), ARGV[3], tonumber(ARGV[4])
local page = redis.call('ZREVRANGEBYSCORE', ALL, ARGV[2], '-inf', 'WITHSCORES', 'LIMIT', 0, wanted)
local rows, skipped = {}, 0
for i = 1, #page, 2 do
    local key = page[i]
    if string.sub(key, 1, #prefix) == prefix then
        local meta = read(key)
        if meta and is_live(key, meta) then
            if skipped < skip then skipped = skipped + 1 else rows[#rows + 1] = row(key, meta) end
        end
    end
end
return {#page == 2 * wanted and '(' .. page[#page] or '', rows, skipped}
