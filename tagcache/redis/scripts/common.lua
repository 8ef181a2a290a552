-- What the scripts share. KEYS[1] is the root of a partition's names, hash tag included; all
-- other names are derived from it, and so are of the same slot.
--
-- A record of `meta` is {expires ms or 0, stored us, time to live as text, bytes, sequence
-- number, tags}. An entry is stale when one of its tags was invalidated after that number.
--
-- A record of `noted` is an invalidation by its number: {'any' or 'all', id, when, tags}. With an id
-- it waits until all partitions of a cluster know of it; without, entries are still to be removed.
local base = KEYS[1]
local prefix, part = string.match(base, '^(.*)({[^{}]*}:)$')
local clock = redis.call('TIME')
local now_us = clock[1] * 1000000 + clock[2]
local now = math.floor(now_us / 1000)
local epoch = redis.call('GET', base .. 'epoch') or '0'
local b = base .. epoch .. ':'
local META, ALL, DUE, TAGS = b .. 'meta', b .. 'all', b .. 'due', b .. 'tags'
local GENS, NOTED, DEAD, LATE = b .. 'gens', b .. 'noted', b .. 'dead', b .. 'late'
-- What leases are compared with, besides GENS: combinations of tags, and keys.
local ALL_GENS, KEY_GENS = b .. 'allgens', b .. 'keygens'
local SUMS, COUNTS = b .. 'sums', base .. 'counts'

-- Names of values begin alike in all partitions, so that all of them can be watched by one prefix.
local function value_of(key) return prefix .. 'v:' .. part .. epoch .. ':' .. key end
local function carriers(tag) return b .. 't:' .. tag end
local function digits(number) return string.format('%.0f', number) end
local function seq() return tonumber(redis.call('GET', base .. 'seq') or '0') end

-- The number of what happens now. Where all was lost they go on from the clock, beyond what leases know.
local function next_seq()
    if redis.call('EXISTS', base .. 'seq') == 0 then
        redis.call('SET', base .. 'seq', digits(now_us))
        redis.call('SET', base .. 'floor', digits(now_us))
    end
    return redis.call('INCR', base .. 'seq')
end

local function count(what, by)
    if by ~= 0 then redis.call('HINCRBY', COUNTS, what, by) end
end

-- Let commands that need memory go on in a full database: this script gives some back.
local function even_if_full() redis.call('DEL', base .. 'nothing') end

local function read(key)
    local packed = redis.call('HGET', META, key)
    return packed and cmsgpack.unpack(packed)
end

local function expired(meta) return meta[1] > 0 and meta[1] <= now end

local function carries_all(meta, tags)
    local carried = {}
    for _, tag in ipairs(meta[6]) do carried[tag] = true end
    for _, tag in ipairs(tags) do
        if not carried[tag] then return false end
    end
    return true
end

local function carries_any(meta, tags)
    local wanted = {}
    for _, tag in ipairs(tags) do wanted[tag] = true end
    for _, tag in ipairs(meta[6]) do
        if wanted[tag] then return true end
    end
    return false
end

-- The sequence number of an invalidation after which the entry does not exist; nil if none. One that
-- waits for other partitions counts, unless there is a list `pending`: then it goes there.
local function stale(meta, pending)
    if #meta[6] == 0 then return nil end
    for _, last in ipairs(redis.call('ZMSCORE', GENS, unpack(meta[6]))) do
        if last and tonumber(last) > meta[5] then return tonumber(last) end
    end
    if redis.call('EXISTS', NOTED) == 1 then
        local noted = redis.call('HGETALL', NOTED)
        for i = 1, #noted, 2 do
            local at, it = tonumber(noted[i]), cmsgpack.unpack(noted[i + 1])
            if at > meta[5] and (it[1] == 'all' and carries_all or carries_any)(meta, it[4]) then
                if it[2] == '' or not pending then return at end
                pending[#pending + 1] = it[2]
            end
        end
    end
    return nil
end

-- Have caches near the servers drop what carries the tag: they watch these names.
local function tell(tag)
    local name = prefix .. 'n:' .. part .. tag
    redis.call('SET', name, '')
    redis.call('DEL', name)
end

-- The number of the invalidation that waits under this id, and its record.
local function noted_as(id)
    local noted = redis.call('HGETALL', NOTED)
    for i = 1, #noted, 2 do
        local it = cmsgpack.unpack(noted[i + 1])
        if it[2] == id then return noted[i], it end
    end
    return nil
end

local function leave_tag(tag, key, bytes)
    local name = carriers(tag)
    if redis.call('ZREM', name, key) == 1 then
        if redis.call('EXISTS', name) == 1 then
            redis.call('HINCRBY', SUMS, 't:' .. tag, 0 - bytes)
        else
            redis.call('SREM', TAGS, tag)
            redis.call('HDEL', SUMS, 't:' .. tag)
        end
    end
end

-- The one way out, whatever the reason.
local function drop(key, meta)
    redis.call('UNLINK', value_of(key))
    redis.call('HDEL', META, key)
    redis.call('ZREM', ALL, key)
    redis.call('ZREM', DUE, key)
    redis.call('HINCRBY', SUMS, 'bytes', #key - meta[4])
    for _, tag in ipairs(meta[6]) do leave_tag(tag, key, meta[4]) end
end

-- Entries that ceased to exist wait in sets, which DEAD lists, to be removed. Of those whose names end
-- in ':c' all were counted at that moment.
local function is_counted(name) return string.sub(name, -2) == ':c' end

local dead = nil
-- Whether the entry, which is about to be removed, waits in such a set, and does not any more.
local function was_counted(key)
    dead = dead or redis.call('LRANGE', DEAD, 0, -1)
    for _, name in ipairs(dead) do
        if is_counted(name) and redis.call('ZREM', name, key) == 1 then return true end
    end
    return false
end

-- How many recorded entries do not exist any more and were counted, less those that have expired since.
local function counted_and_left()
    local number = 0
    for _, name in ipairs(redis.call('LRANGE', DEAD, 0, -1)) do
        if is_counted(name) then
            number = number + redis.call('ZCOUNT', name, '(' .. digits(now), '+inf')
        end
    end
    return number
end

-- Whether the number of entries can be told without looking at each.
local function is_exact()
    for _, name in ipairs(redis.call('LRANGE', DEAD, 0, -1)) do
        if not is_counted(name) then return false end
    end
    return not noted_as('')
end

-- Add one to what an invalidation is to count: the one that took the key away, which may be an earlier
-- one than `at`, the last of the entry's tags.
local function count_late(key, at)
    for _, name in ipairs(redis.call('LRANGE', DEAD, 0, -1)) do
        if redis.call('ZSCORE', name, key) then
            at = string.match(name, ':d:(%d+):%d+')
            break
        end
    end
    redis.call('HINCRBY', LATE, at, 1)
end

-- Remove what is recorded but does not exist any more, and count it for the right reason.
local function drop_gone(key, meta, at)
    if was_counted(key) then
        -- It is only removed now.
    elseif expired(meta) then
        count('expirations', 1)
    elseif at then
        count('invalidations', 1)
        count_late(key, digits(at))
    else
        count('evictions', 1)
    end
    drop(key, meta)
end

-- The record of an entry that exists; what does not is removed. Changes the database.
local function find(key)
    local meta = read(key)
    if not meta then return nil end
    local at = stale(meta)
    if expired(meta) or at or redis.call('EXISTS', value_of(key)) == 0 then
        even_if_full()
        drop_gone(key, meta, at)
        return nil
    end
    return meta
end

local function is_live(key, meta, pending)
    return not expired(meta) and not stale(meta, pending) and redis.call('EXISTS', value_of(key)) == 1
end

-- `ttl` is milliseconds as text, empty for none; `old` what `find` returned.
local function store(key, value, tags, ttl, at, old)
    local expires = 0
    -- The first write: where memory is out this one is refused, and nothing has changed.
    if ttl ~= '' then
        expires = math.min(now + tonumber(ttl), 9e15)
        redis.call('SET', value_of(key), value, 'PXAT', digits(expires))
        redis.call('ZADD', DUE, digits(expires), key)
    else
        redis.call('SET', value_of(key), value)
        if old and old[1] > 0 then redis.call('ZREM', DUE, key) end
    end
    local bytes, before, had = #key + #value, 0, {}
    if old then
        before = old[4]
        local wanted = {}
        for _, tag in ipairs(tags) do wanted[tag] = true end
        for _, tag in ipairs(old[6]) do
            if wanted[tag] then had[tag] = true else leave_tag(tag, key, before) end
        end
    end
    local more = bytes - before
    -- The length of values alone; that of the key never changes.
    local longer = old and more or #value
    if longer ~= 0 then redis.call('HINCRBY', SUMS, 'bytes', longer) end
    redis.call('HSET', META, key, cmsgpack.pack({expires, now_us, ttl, bytes, at, tags}))
    redis.call('ZADD', ALL, digits(now_us), key)
    for _, tag in ipairs(tags) do
        if not had[tag] then
            redis.call('SADD', TAGS, tag)
            redis.call('HINCRBY', SUMS, 't:' .. tag, bytes)
        elseif more ~= 0 then
            redis.call('HINCRBY', SUMS, 't:' .. tag, more)
        end
        if not (had[tag] and expires == old[1]) then
            redis.call('ZADD', carriers(tag), expires > 0 and digits(expires) or '+inf', key)
        end
    end
end

local function from(first)
    local rest = {}
    for i = first, #ARGV do rest[#rest + 1] = ARGV[i] end
    return rest
end

local function row(key, meta)
    local left = meta[1] > 0 and digits(math.max(meta[1] - now, 0)) or ''
    return {key, digits(meta[2]), left, meta[3], meta[4], meta[6]}
end
