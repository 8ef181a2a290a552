-- What the scripts share that invalidate.

-- Have no write outlive this that answers to a miss before it.
local function outdate(kind, tags, at)
    if kind == 'any' then
        for _, tag in ipairs(tags) do redis.call('ZADD', GENS, digits(at), tag) end
        return
    end
    table.sort(tags)
    redis.call('ZADD', ALL_GENS, digits(at), cmsgpack.pack(tags))
end

-- Remove what carries one of the tags, the first `at_once` entries at once. Returns how many were
-- removed, 0, the names of sets whose entries ceased to exist and are to be removed, and some of the
-- keys.
local function invalidate_any(at_once, tags)
    local names, removed, waiting, keys = {}, 0, {}, {}
    for _, tag in ipairs(tags) do
        local name = carriers(tag)
        local size = redis.call('ZCARD', name)
        if size > at_once then
            waiting[#waiting + 1] = tag
        elseif size > 0 then
            at_once = at_once - size
            for _, key in ipairs(redis.call('ZRANGE', name, 0, -1)) do
                local meta = find(key)
                if meta then
                    drop(key, meta)
                    removed = removed + 1
                    if #keys < 256 then keys[#keys + 1] = key end
                end
            end
        end
    end
    local at = redis.call('INCR', base .. 'seq')
    outdate('any', tags, at)
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
    for _, tag in ipairs(tags) do tell(tag) end
    count('invalidations', removed)
    return {removed, 0, names, keys}
end

-- Remove what carries all of the tags, if it is found among `at_once` entries; else note it. Returns
-- how many were removed, and the number of the invalidation, 0 if none is left to be removed.
local function invalidate_all(at_once, tags)
    local smallest, least = nil, math.huge
    for _, tag in ipairs(tags) do
        local size = redis.call('ZCARD', carriers(tag))
        if size < least then smallest, least = tag, size end
    end
    local at = redis.call('INCR', base .. 'seq')
    outdate('all', tags, at)
    -- There is no name for a combination; one of its tags brings it to notice.
    tell(smallest)
    if least > at_once then
        redis.call('HSET', NOTED, digits(at), cmsgpack.pack({'all', '', now, tags}))
        return {0, at, {}, {}}
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
    return {removed, 0, {}, {}}
end

local function invalidate(kind, at_once, tags)
    return (kind == 'all' and invalidate_all or invalidate_any)(at_once, tags)
end
