-- ARGV: how many entries are removed at once, tags. Returns how many were removed, the number
-- of the invalidation, and the names of sets whose entries ceased to exist and are to be removed.
local at_once, tags, names, removed, waiting = tonumber(ARGV[1]), from(2), {}, 0, {}
even_if_full()
for _, tag in ipairs(tags) do
    local name = carriers(tag)
    if redis.call('ZCARD', name) <= at_once then
        for _, key in ipairs(redis.call('ZRANGE', name, 0, -1)) do
            local meta = find(key)
            if meta then
                drop(key, meta)
                removed = removed + 1
            end
        end
    else
        waiting[#waiting + 1] = tag
    end
end
local at = redis.call('INCR', base .. 'seq')
for _, tag in ipairs(tags) do redis.call('ZADD', GENS, at, tag) end
for i, tag in ipairs(waiting) do
    if redis.call('EXISTS', carriers(tag)) == 1 then
        local name = b .. 'd:' .. digits(at) .. ':' .. i
        redis.call('RENAME', carriers(tag), name)
        redis.call('SREM', TAGS, tag)
        redis.call('HDEL', SUMS, 't:' .. tag)
        redis.call('RPUSH', DEAD, name)
        names[#names + 1] = name
    end
end
count('invalidations', removed)
return {removed, at, names}
