-- Shared by all scripts. Each gets only the functions and variables that it uses: a variable has one line
-- here, and a function ends with `end` in the first column, or in its only line.
--
-- A record of `meta` is {expires ms or 0, stored us, time to live as text, bytes, sequence
-- number, tags, grace in ms or nothing}. It is dead when one of its tags was invalidated after that number.
--
-- A dead entry is one that was invalidated, has expired or was evicted, and is not removed yet. The
-- names in `dead` are sets of entries that died together, by an invalidation.
local clock = redis.call('TIME')
local now_us = clock[1] * 1000000 + clock[2]
local now = math.floor(now_us / 1000)
local META = b .. 'meta'
local ALL = b .. 'all'
local DUE = b .. 'due'
local TAGS = b .. 'tags'
local GENS = b .. 'gens'
local DEAD = b .. 'dead'
local LATE = b .. 'late'
-- The last soft invalidations of tags, and the last ones of combinations of tags, soft or not. Leases are
-- compared with them and GENS.
local SOFT_GENS = b .. 'softgens'
local ALL_GENS = b .. 'allgens'
-- Leases by key, and their keys by end.
local LEASES = b .. 'leases'
local LEASED = b .. 'leased'
-- Keys with a grace by its end, '+inf' before it began without a time to live; and stale entries by key.
local GRACES = b .. 'graces'
local STALE = b .. 'stale'
local SUMS = b .. 'sums'
local COUNTS = base .. 'counts'

-- The keys of values have the same prefix in all partitions, so that one prefix tracks all of them.
local function value_of(key) return prefix .. 'v:' .. part .. epoch .. ':' .. key end
local function stale_value_of(key) return b .. 's:' .. key end
local function carriers(tag) return b .. 't:' .. tag end
local function digits(number) return string.format('%.0f', number) end
local function seq() return tonumber(redis.call('GET', base .. 'seq') or '0') end

-- Record the home of the partition with its first write.
local function claim()
    if not stored_epoch and home ~= '' then
        stored_epoch = epoch .. ':' .. home
        redis.call('SET', base .. 'epoch', stored_epoch)
    end
end

-- Begin a new epoch: all entries and leases stay behind in the old one, for reclaim.
local function begin_epoch()
    -- A part without a key: all leases of the partition have ended.
    if redis.call('EXISTS', LEASES) == 1 then redis.pcall('PUBLISH', prefix .. 'ends', part) end
    redis.call('SET', base .. 'epoch', digits(tonumber(epoch) + 1) .. ':' .. (home == '' and held_by or home))
    redis.call('RPUSH', base .. 'old', epoch)
    -- Near caches track this key.
    redis.call('SET', prefix .. 'f:' .. part, '')
    redis.call('DEL', prefix .. 'f:' .. part)
end

-- In an empty database, sequence numbers start at the time of the clock.
local function begin_seq()
    claim()
    redis.call('SET', base .. 'seq', digits(now_us), 'NX')
end

local function next_seq()
    begin_seq()
    return redis.call('INCR', base .. 'seq')
end

local function count(what, by)
    if by ~= 0 then redis.call('HINCRBY', COUNTS, what, by) end
end

-- Allow commands that need memory in a full database, because a script that has written may continue.
-- Only for scripts that free memory.
local function allow_oom() redis.call('DEL', base .. 'nothing') end

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

local quiet = nil
-- Whether there are no generations, leases and graces, so that an entry needs no comparison with them.
local function is_quiet()
    if quiet == nil then quiet = redis.call('EXISTS', GENS, LEASES, GRACES) == 0 end
    return quiet
end

-- The sequence number of the invalidation that killed the entry; nil if none.
local function stale(meta)
    if #meta[6] == 0 or is_quiet() then return nil end
    for _, last in ipairs(redis.call('ZMSCORE', GENS, unpack(meta[6]))) do
        if last and tonumber(last) > meta[5] then return tonumber(last) end
    end
    return nil
end

-- Make near caches drop the entries with the tag: they track these keys.
local function notify_near(tag)
    local name = prefix .. 'n:' .. part .. tag
    redis.call('SET', name, '')
    redis.call('DEL', name)
end

-- Take keys out of the index of a tag; `sizes` are the bytes of their entries.
local function leave_tag(tag, keys, sizes)
    local name, there, bytes = carriers(tag), keys, sizes[1]
    if #keys > 1 then
        there, bytes = {}, 0
        for i, score in ipairs(redis.call('ZMSCORE', name, unpack(keys))) do
            if score then
                there[#there + 1] = keys[i]
                bytes = bytes + sizes[i]
            end
        end
        if #there == 0 then return end
    end
    if redis.call('ZREM', name, unpack(there)) == 0 then return end
    local left = redis.call('HINCRBY', SUMS, 't:' .. tag, 0 - bytes)
    if left <= 0 and redis.call('EXISTS', name) == 0 then
        redis.call('SREM', TAGS, tag)
        redis.call('HDEL', SUMS, 't:' .. tag)
    end
end

-- The only function that removes entries: a few hundred, each {key, record}.
local function drop_all(gone)
    if #gone == 0 then return end
    local keys, values, due, graces, bytes = {}, {}, {}, {}, 0
    local tags, keys_of, sizes_of = {}, {}, {}
    for i, entry in ipairs(gone) do
        local key, meta = entry[1], entry[2]
        keys[i], values[i] = key, value_of(key)
        bytes = bytes + #key - meta[4]
        if meta[1] > 0 then due[#due + 1] = key end
        if meta[7] then graces[#graces + 1] = key end
        for _, tag in ipairs(meta[6]) do
            local those = keys_of[tag]
            if those then
                those[#those + 1] = key
                sizes_of[tag][#those] = meta[4]
            else
                tags[#tags + 1], keys_of[tag], sizes_of[tag] = tag, {key}, {meta[4]}
            end
        end
    end
    redis.call('UNLINK', unpack(values))
    redis.call('HDEL', META, unpack(keys))
    redis.call('ZREM', ALL, unpack(keys))
    if #due > 0 then redis.call('ZREM', DUE, unpack(due)) end
    if #graces > 0 then redis.call('ZREM', GRACES, unpack(graces)) end
    redis.call('HINCRBY', SUMS, 'bytes', bytes)
    for _, tag in ipairs(tags) do leave_tag(tag, keys_of[tag], sizes_of[tag]) end
end

local function drop(key, meta) drop_all({{key, meta}}) end

-- Remove an entry that became stale at the time `since`: it is kept apart until its grace is over.
local function soften(key, meta, since)
    local over = since + (meta[7] or 0)
    local kept = meta[7] and over > now and redis.call('EXISTS', value_of(key)) == 1
    if kept then
        redis.call('RENAME', value_of(key), stale_value_of(key))
        redis.call('PEXPIREAT', stale_value_of(key), digits(over))
    end
    drop(key, meta)
    if kept then
        redis.call('HSET', STALE, key, cmsgpack.pack({meta[5], meta[6]}))
        redis.call('ZADD', GRACES, digits(over), key)
    end
end

-- DEAD lists sets of dead entries. If the name of a set ends in ':c', its entries were counted when
-- they died.
local function is_counted(name) return string.sub(name, -2) == ':c' end

local dead = nil
-- Whether an entry that is about to be removed was counted when it died; takes it out of its dead set.
local function was_counted(key)
    dead = dead or redis.call('LRANGE', DEAD, 0, -1)
    for _, name in ipairs(dead) do
        if is_counted(name) and redis.call('ZREM', name, key) == 1 then return true end
    end
    return false
end

-- The number of entries in `meta` that are dead and counted, without those that have expired since.
local function counted_and_left()
    local number = 0
    for _, name in ipairs(redis.call('LRANGE', DEAD, 0, -1)) do
        if is_counted(name) then
            number = number + redis.call('ZCOUNT', name, '(' .. digits(now), '+inf')
        end
    end
    return number
end

-- Whether the number of entries is known without looking at each.
local function is_exact()
    for _, name in ipairs(redis.call('LRANGE', DEAD, 0, -1)) do
        if not is_counted(name) then return false end
    end
    return true
end

-- Add one to the count of the invalidation that killed the entry. It may be an earlier one than `at`,
-- the last invalidation of the entry's tags.
local function count_late(key, at)
    for _, name in ipairs(redis.call('LRANGE', DEAD, 0, -1)) do
        if redis.call('ZSCORE', name, key) then
            at = string.match(name, ':d:(%d+):%d+')
            break
        end
    end
    redis.call('HINCRBY', LATE, at, 1)
end

-- Remove a dead entry, and count the reason.
local function drop_dead(key, meta, at)
    if was_counted(key) then
        -- Counted already.
    elseif expired(meta) then
        count('expirations', 1)
    elseif at then
        count('invalidations', 1)
        count_late(key, digits(at))
    else
        count('evictions', 1)
    end
    if expired(meta) and not at then soften(key, meta, meta[1]) else drop(key, meta) end
end

-- The record of a live entry; a dead one is removed. Changes the database. `known` is the record, if it
-- was read before.
local function find(key, known)
    local meta = known or read(key)
    if not meta then return nil end
    local at = stale(meta)
    if expired(meta) or at or redis.call('EXISTS', value_of(key)) == 0 then
        allow_oom()
        drop_dead(key, meta, at)
        return nil
    end
    return meta
end

local function is_live(key, meta)
    return not expired(meta) and not stale(meta) and redis.call('EXISTS', value_of(key)) == 1
end

-- A lease: {token as text, sequence number, end in ms, '1' if somebody waits for its end or '0'}.
local function save_lease(key, lease)
    local text = string.format('%s:%.0f:%.0f:%s', lease[1], lease[2], lease[3], lease[4])
    redis.call('HSET', LEASES, key, text)
end

-- End a lease before its time, and notify the servers at which somebody waits for that.
local function end_lease(key, lease)
    redis.call('HDEL', LEASES, key)
    redis.call('ZREM', LEASED, key)
    -- A user without the right to publish makes those who wait ask later.
    if lease[4] == '1' then redis.pcall('PUBLISH', prefix .. 'ends', part .. key) end
end

local function lease_of(key)
    local text = redis.call('HGET', LEASES, key)
    if not text then return nil end
    local token, at, ends, waited = string.match(text, '^(%d+):(-?%d+):(%d+):(%d)$')
    ends = tonumber(ends)
    if ends <= now then
        redis.call('HDEL', LEASES, key)
        redis.call('ZREM', LEASED, key)
        return nil
    end
    return {token, tonumber(at), ends, waited}
end

-- Make the lease of a key useless for a fill; it remains out.
local function outdate_lease(key)
    local lease = lease_of(key)
    if lease then
        lease[2] = -1
        save_lease(key, lease)
    end
end

-- Note that a key was stored or removed: its lease is outdated, and its stale entry goes.
local function renew(key)
    if is_quiet() then return end
    outdate_lease(key)
    redis.call('ZREM', GRACES, key)
    if redis.call('HDEL', STALE, key) == 1 then redis.call('UNLINK', stale_value_of(key)) end
end

-- Whether a value with these tags was invalidated after a sequence number, also softly if `soft`. Where
-- that is not remembered any more, it was.
local function is_outdated(at, tags, soft)
    if at < tonumber(redis.call('GET', base .. 'floor') or '0') then return true end
    if #tags == 0 then return false end
    for _, gens in ipairs(soft and {GENS, SOFT_GENS} or {GENS}) do
        for _, last in ipairs(redis.call('ZMSCORE', gens, unpack(tags))) do
            if last and tonumber(last) > at then return true end
        end
    end
    for _, packed in ipairs(redis.call('ZRANGEBYSCORE', ALL_GENS, '(' .. digits(at), '+inf')) do
        local known = cmsgpack.unpack(packed)
        if (soft or known[1] == '') and carries_all({[6] = tags}, known[2]) then return true end
    end
    return false
end

-- `ttl` is in milliseconds as text, empty for none; `old` is the result of `find`. With a ttl, `deadline`
-- is when the entry expires; without one, that follows from now. `grace` is in milliseconds, 0 for none.
local function store(key, value, tags, ttl, at, old, deadline, grace)
    local expires = 0
    grace = grace or 0
    -- The first writes: if memory is full, Redis refuses these, and nothing has changed.
    claim()
    if ttl ~= '' then
        expires = math.min(deadline or now + tonumber(ttl), 9e15)
        -- Redis removes a value in the millisecond after its time.
        redis.call('SET', value_of(key), value, 'PXAT', digits(math.min(expires + grace, 9e15) - 1))
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
            if wanted[tag] then had[tag] = true else leave_tag(tag, {key}, {before}) end
        end
    end
    local more = bytes - before
    -- The sum has the lengths of values only.
    local longer = old and more or #value
    if longer ~= 0 then redis.call('HINCRBY', SUMS, 'bytes', longer) end
    local record = {expires, now_us, ttl, bytes, at, tags}
    renew(key)
    if grace > 0 then
        record[7] = grace
        redis.call('ZADD', GRACES, expires > 0 and digits(expires + grace) or '+inf', key)
    end
    redis.call('HSET', META, key, cmsgpack.pack(record))
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
