-- Shared by the scripts that invalidate.

-- Record the invalidation, if there is anything that must be compared with it: leases, and entries with a
-- grace; and `dead` entries.
local function outdate(kind, soft, tags, at, dead)
    local is_needed = dead or redis.call('EXISTS', LEASES, GRACES) > 0
    if not is_needed then return end
    if kind == 'any' then
        for _, tag in ipairs(tags) do
            redis.call('ZADD', soft and SOFT_GENS or GENS, digits(at), tag)
        end
        quiet = nil
        return
    end
    -- In a loop, because `unpack` is limited to a few thousand values.
    local sorted = {}
    for i, tag in ipairs(tags) do sorted[i] = tag end
    table.sort(sorted)
    redis.call('ZADD', ALL_GENS, digits(at), cmsgpack.pack({soft and 'soft' or '', sorted}))
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

-- Remove those of the entries that are live, older than the invalidation `at` and have all the tags, or let
-- them become stale if the invalidation is soft; returns a list of {key, record}.
local function remove_older(keys, at, tags, soft)
    local gone = {}
    for _, key in ipairs(keys) do
        local meta = read(key)
        if meta and meta[5] < at and carries_all(meta, tags) then
            meta = find(key, meta)
            if meta then gone[#gone + 1] = {key, meta} end
        end
    end
    if not soft then
        drop_all(gone)
    else
        for _, entry in ipairs(gone) do soften(entry[1], entry[2], now) end
    end
    return gone
end
