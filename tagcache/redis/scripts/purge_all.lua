-- ARGV: number of entries, sequence number of an invalidation by all tags or '' for the first found,
-- cursor, and 'help' if another server began it. Removes entries that invalidate_all left. Returns how
-- many were removed, the next cursor, '0' at the end, and the sequence number.
allow_oom()
local at = ARGV[2]
if at == '' then
    at = noted_as('')
    if not at then return {0, '0', ''} end
end
local packed = redis.call('HGET', NOTED, at)
if not packed then return {tonumber(redis.call('HGET', LATE, at) or '0'), '0', at} end
local tags = cmsgpack.unpack(packed)[4]
local page = redis.call('ZSCAN', carriers(tags[1]), ARGV[3], 'COUNT', ARGV[1])
local removed = 0
for i = 1, #page[2], 2 do
    local meta = read(page[2][i])
    if meta and meta[5] < tonumber(at) and carries_all(meta, tags) then
        if was_counted(page[2][i]) then
            -- Counted already.
        elseif expired(meta) then
            count('expirations', 1)
        else
            removed = removed + 1
        end
        drop(page[2][i], meta)
    end
end
count('invalidations', removed)
if ARGV[4] then
    if removed > 0 then redis.call('HINCRBY', LATE, at, removed) end
    if page[1] == '0' then redis.call('HDEL', NOTED, at) end
elseif page[1] == '0' then
    removed = removed + tonumber(redis.call('HGET', LATE, at) or '0')
    redis.call('HDEL', LATE, at)
    redis.call('HDEL', NOTED, at)
end
return {removed, page[1], at}
