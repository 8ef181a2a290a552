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

-- Rename the index of a tag to that of a dead set.
local function take_away(tag, name)
    redis.call('RENAME', carriers(tag), name)
    redis.call('SREM', TAGS, tag)
    redis.call('HDEL', SUMS, 't:' .. tag)
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

-- Remove a live entry that is older than the invalidation `at` and has all the tags; returns whether it
-- was one.
local function remove_older(key, at, tags)
    local meta = read(key)
    if not meta or meta[5] >= at or not carries_all(meta, tags) then return false end
    meta = find(key)
    if meta then drop(key, meta) end
    return meta ~= nil
end
