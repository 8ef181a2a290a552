-- ARGV: how many, stored before (a score or '+inf'), prefix. Returns where to go on ('' at the
-- end) and rows, the last stored first.
local wanted, prefix = tonumber(ARGV[1]), ARGV[3]
local page = redis.call('ZREVRANGEBYSCORE', ALL, ARGV[2], '-inf', 'WITHSCORES', 'LIMIT', 0, wanted)
local rows = {}
for i = 1, #page, 2 do
    local key = page[i]
    if string.sub(key, 1, #prefix) == prefix then
        local meta = read(key)
        if meta and is_live(key, meta) then rows[#rows + 1] = row(key, meta) end
    end
end
return {#page == 2 * wanted and '(' .. page[#page] or '', rows}
