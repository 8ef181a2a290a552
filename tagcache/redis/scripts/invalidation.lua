-- What the scripts share that invalidate.

-- Have no write outlive this that answers to a miss before it.
local function outdate(kind, tags, at)
    if kind == 'any' then
        -- Another that was noted later may be through already.
        for _, tag in ipairs(tags) do redis.call('ZADD', GENS, 'GT', digits(at), tag) end
        return
    end
    -- Not by `unpack`: that takes some thousands at most.
    local sorted = {}
    for i, tag in ipairs(tags) do sorted[i] = tag end
    table.sort(sorted)
    redis.call('ZADD', ALL_GENS, digits(at), cmsgpack.pack(sorted))
end

-- What was stored since the invalidation `at` was noted, at the time `since` in milliseconds, and
-- carries one of the tags, by key: it does not go.
local function stored_after(at, since, tags)
    local found = {}
    if not since then return found end
    for _, key in ipairs(redis.call('ZRANGEBYSCORE', ALL, digits(since * 1000), '+inf')) do
        local meta = read(key)
        if meta and meta[5] >= at and carries_any(meta, tags) then found[key] = meta end
    end
    return found
end

-- Take the set of those that carry a tag away under another name, but for those that stay.
local function take_away(tag, name, staying)
    redis.call('RENAME', carriers(tag), name)
    redis.call('SREM', TAGS, tag)
    redis.call('HDEL', SUMS, 't:' .. tag)
    for key, meta in pairs(staying) do
        local score = redis.call('ZSCORE', name, key)
        if score then
            redis.call('ZREM', name, key)
            redis.call('ZADD', carriers(tag), score, key)
            redis.call('SADD', TAGS, tag)
            redis.call('HINCRBY', SUMS, 't:' .. tag, meta[4])
        end
    end
end

-- Of a combination of tags put that first which the fewest entries carry: they are found by it, and as
-- there is no name for a combination, it brings it to notice. Returns how many that are.
local function put_rarest_first(tags)
    local smallest, least = nil, math.huge
    for i, tag in ipairs(tags) do
        local size = redis.call('ZCARD', carriers(tag))
        if size < least then smallest, least = i, size end
    end
    tags[1], tags[smallest] = tags[smallest], tags[1]
    return least
end

-- Remove what carries one of the tags, the first `at_once` entries at once. Returns how many were
-- removed, 0, the names of sets whose entries ceased to exist and are to be removed, and some of the
-- keys. With `at` it was noted before, under that number and at the time `since`.
local function invalidate_any(at_once, tags, at, since)
    local names, removed, waiting, keys = {}, 0, {}, {}
    local noted = at
    at = at or next_seq()
    for _, tag in ipairs(tags) do
        local name = carriers(tag)
        local size = redis.call('ZCARD', name)
        if size > at_once then
            waiting[#waiting + 1] = tag
        elseif size > 0 then
            at_once = at_once - size
            for _, key in ipairs(redis.call('ZRANGE', name, 0, -1)) do
                local meta = find(key)
                if meta and meta[5] < at then
                    drop(key, meta)
                    removed = removed + 1
                    if #keys < 256 then keys[#keys + 1] = key end
                end
            end
        end
    end
    outdate('any', tags, at)
    -- Then all that carry it still exist, and none is found by two of the tags.
    local countable = #waiting == 1 and redis.call('EXISTS', DEAD, NOTED) == 0
    local staying = #waiting > 0 and stored_after(at, since, waiting)
    for i, tag in ipairs(waiting) do
        if redis.call('EXISTS', carriers(tag)) == 1 then
            local name = b .. 'd:' .. digits(at) .. ':' .. i .. (countable and ':c' or '')
            take_away(tag, name, staying)
            if countable then
                local size = redis.call('ZCARD', name)
                local live = redis.call('ZCOUNT', name, '(' .. digits(now), '+inf')
                removed = removed + live
                count('expirations', size - live)
                keys = redis.call('ZRANGE', name, 0, 255)
            end
            redis.call('RPUSH', DEAD, name)
            names[#names + 1] = name
        end
    end
    if not noted then
        for _, tag in ipairs(tags) do tell(tag) end
    end
    count('invalidations', removed)
    return {removed, 0, names, keys}
end

-- Remove what carries all of the tags, if it is found among `at_once` entries; else note it. Returns
-- how many were removed, and the number of the invalidation, 0 if none is left to be removed. With
-- `at` it was noted before, under that number.
local function invalidate_all(at_once, tags, at)
    local noted = at
    at = at or next_seq()
    outdate('all', tags, at)
    local least = put_rarest_first(tags)
    if not noted then tell(tags[1]) end
    if least > at_once then
        redis.call('HSET', NOTED, digits(at), cmsgpack.pack({'all', '', now, tags}))
        return {0, at, {}, {}}
    end
    local removed = 0
    for _, key in ipairs(redis.call('ZRANGE', carriers(tags[1]), 0, -1)) do
        local meta = read(key)
        if meta and carries_all(meta, tags) then
            meta = find(key)
            if meta and meta[5] < at then
                drop(key, meta)
                removed = removed + 1
            end
        end
    end
    count('invalidations', removed)
    return {removed, 0, {}, {}}
end
