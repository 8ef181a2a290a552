-- ARGV: how many, number of an invalidation or '' for the oldest, cursor. Goes on with what
-- invalidate_all left. Returns how many were removed and the next cursor; '0' at the end.
even_if_full()
local at = ARGV[2]
if at == '' then
    at = noted_as('')
    if not at then return {0, '0', ''} end
end
local packed = redis.call('HGET', NOTED, at)
if not packed then return {tonumber(redis.call('HGET', LATE, at) or '0'), '0', at} end
local tags = cmsgpack.unpack(packed)[4]
-- The walk must stay with one set: the first of the names in order will do.
table.sort(tags)
local page = redis.call('ZSCAN', carriers(tags[1]), ARGV[3], 'COUNT', ARGV[1])
local removed = 0
for i = 1, #page[2], 2 do
    local meta = read(page[2][i])
    if meta and meta[5] < tonumber(at) and carries_all(meta, tags) then
        if expired(meta) then count('expirations', 1) else removed = removed + 1 end
        drop(page[2][i], meta)
    end
end
count('invalidations', removed)
if page[1] == '0' then
    removed = removed + tonumber(redis.call('HGET', LATE, at) or '0')
    redis.call('HDEL', LATE, at)
    redis.call('HDEL', NOTED, at)
end
return {removed, page[1], at}
