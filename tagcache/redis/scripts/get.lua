-- ARGV: pairs of a key, and '1' for details or ''. Look-ups; they change nothing. Returns for each key
-- the value, or the sequence number of a miss, or an error. With details, and if an invalidation of the
-- entry is pending: the value, the sequence number, the remaining time to live, the tags, and the ids of
-- pending invalidations. If one of these is committed, the entry does not exist.
local META, GENS = b .. 'meta', b .. 'gens'
local value_of = prefix .. 'v:' .. part .. epoch .. ':'
local now, noted, at = nil, nil, nil

-- Read once, and only if needed.
local function time()
    if not now then
        local clock = redis.call('TIME')
        now = clock[1] * 1000 + math.floor(clock[2] / 1000)
    end
    return now
end

local function missed_at()
    at = at or tonumber(redis.call('GET', base .. 'seq') or '0')
    return at
end

-- The noted invalidations, each with its tags as a set.
local function notes()
    if not noted then
        noted = {}
        local records = redis.call('HGETALL', b .. 'noted')
        for i = 1, #records, 2 do
            local it, set = cmsgpack.unpack(records[i + 1]), {}
            for _, tag in ipairs(it[4]) do set[tag] = true end
            noted[#noted + 1] = {
                number = tonumber(records[i]), id = it[2], tags = set,
                least = it[1] == 'any' and 1 or #it[4],
            }
        end
    end
    return noted
end

local function how_many(tags, set)
    local number = 0
    for _, tag in ipairs(tags) do
        if set[tag] then number = number + 1 end
    end
    return number
end

-- Whether the entry is live as far as this partition knows, and ids of pending invalidations of it.
local function is_live(meta)
    local tags, number, pending = meta[6], meta[5], nil
    if meta[1] > 0 and meta[1] <= time() then return false end
    if #tags == 0 then return true end
    for _, last in ipairs(redis.call('ZMSCORE', GENS, unpack(tags))) do
        if last and tonumber(last) > number then return false end
    end
    for _, note in ipairs(notes()) do
        if note.number > number and how_many(tags, note.tags) >= note.least then
            if note.id == '' then return false end
            pending = pending or {}
            pending[#pending + 1] = note.id
        end
    end
    return true, pending
end

local function look_up(key, more)
    local packed = redis.call('HGET', META, key)
    if not packed then return missed_at() end
    local meta = cmsgpack.unpack(packed)
    local live, pending = is_live(meta)
    local value = live and redis.call('GET', value_of .. key)
    if not value then return missed_at() end
    if more == '' and not pending then return value end
    local left = meta[1] > 0 and string.format('%.0f', meta[1] - time()) or ''
    return {value, missed_at(), left, meta[6], pending or {}}
end

local found = {}
for i = 1, #ARGV, 2 do
    local fine, result = pcall(look_up, ARGV[i], ARGV[i + 1])
    -- The error of one look-up must not fail the others.
    if not fine and type(result) ~= 'table' then result = {err = 'ERR ' .. result} end
    found[#found + 1] = result
end
return found
