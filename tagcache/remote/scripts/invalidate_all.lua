-- ARGV: how many entries are looked at once, tags. Returns how many were removed, and, where there
-- are more, the number of the invalidation, else 0: these exist no more, and are to be removed.
local at_once, tags = tonumber(ARGV[1]), from(2)
even_if_full()
local smallest, least = nil, math.huge
for _, tag in ipairs(tags) do
    local size = redis.call('ZCARD', carriers(tag))
    if size < least then smallest, least = tag, size end
end
if least > at_once then
    local at = redis.call('INCR', base .. 'seq')
    redis.call('HSET', COMBOS, at, cmsgpack.pack(tags))
    return {0, at}
end
local removed = 0
for _, key in ipairs(redis.call('ZRANGE', carriers(smallest), 0, -1)) do
    local meta = read(key)
    if meta and carries_all(meta, tags) then
        meta = find(key)
        if meta then
            drop(key, meta)
            removed = removed + 1
        end
    end
end
count('invalidations', removed)
return {removed, 0}
