-- Shared by the scripts that invalidate.

-- Record the invalidation, so that later fills whose lease is from before are refused.
local function outdate(kind, tags, at)
    if kind == 'any' then
        -- GT: an invalidation with a higher number may be applied already.
        for _, tag in ipairs(tags) do redis.call('ZADD', GENS, 'GT', digits(at), tag) end
        return
    end
    -- Not by `unpack`, which is limited to some thousands.
    local sorted = {}
    for i, tag in ipairs(tags) do sorted[i] = tag end
    table.sort(sorted)
    redis.call('ZADD', ALL_GENS, digits(at), cmsgpack.pack(sorted))
end

-- The entries with one of the tags that were stored after the invalidation `at` was noted, at the time
-- `since` in milliseconds: records by key. They stay.
local function stored_after(at, since, tags)
    local found = {}
    if not since then return found end
    for _, key in ipairs(redis.call('ZRANGEBYSCORE', ALL, digits(since * 1000), '+inf')) do
        local meta = read(key)
        if meta and meta[5] >= at and carries_any(meta, tags) then found[key] = meta end
    end
    return found
end

-- Rename the index of a tag to that of a dead set; the entries `staying` stay in the index.
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

-- Move the tag with the fewest entries to the front: it is the one to search by, and the one by which
-- near caches are notified, as a combination has no key. Returns the number of its entries.
local function put_rarest_first(tags)
    local smallest, least = nil, math.huge
    for i, tag in ipairs(tags) do
        local size = redis.call('ZCARD', carriers(tag))
        if size < least then smallest, least = i, size end
    end
    tags[1], tags[smallest] = tags[smallest], tags[1]
    return least
end

-- Remove a live entry that is older than the invalidation `at`; returns whether it was one. What is newer
-- stays, even if another invalidation of it is pending: that may not happen.
local function remove_older(key, at)
    local meta = read(key)
    if not meta or meta[5] >= at then return false end
    meta = find(key)
    if meta then drop(key, meta) end
    return meta ~= nil
end

-- Invalidate the entries with any of the tags, and remove `at_once` of them. Returns how many were
-- counted, 0, the names of dead sets with entries to remove, and some of the keys. With `at`, the
-- invalidation was noted under that sequence number, at the time `since` in milliseconds.
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
                if remove_older(key, at) then
                    removed = removed + 1
                    if #keys < 256 then keys[#keys + 1] = key end
                end
            end
        end
    end
    outdate('any', tags, at)
    -- Then all entries in the index are live, and none is in two of the dead sets.
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
        for _, tag in ipairs(tags) do notify_near(tag) end
    end
    count('invalidations', removed)
    return {removed, 0, names, keys}
end

-- Invalidate the entries with all of the tags. Remove them if at most `at_once` have the rarest tag;
-- otherwise note the invalidation. Returns how many were removed, its sequence number, 0 if nothing is
-- left to remove, and two empty lists. With `at`, it was noted under that sequence number.
local function invalidate_all(at_once, tags, at)
    local noted = at
    at = at or next_seq()
    outdate('all', tags, at)
    local least = put_rarest_first(tags)
    if not noted then notify_near(tags[1]) end
    if least > at_once then
        redis.call('HSET', NOTED, digits(at), cmsgpack.pack({'all', '', now, tags}))
        return {0, at, {}, {}}
    end
    local removed = 0
    for _, key in ipairs(redis.call('ZRANGE', carriers(tags[1]), 0, -1)) do
        local meta = read(key)
        if meta and carries_all(meta, tags) and remove_older(key, at) then removed = removed + 1 end
    end
    count('invalidations', removed)
    return {removed, 0, {}, {}}
end
