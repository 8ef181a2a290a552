-- ARGV: how many, what ('entries' or 'tags'), tag, cursor. Looks whether entries and indexes agree:
-- from records to indexes, or from the indexes of a tag to the records. Returns the next cursor, how
-- many entries were looked at, and what disagrees, as pairs of a key and a word.
local faults, looked = {}, 0
local function fault(key, what)
    faults[#faults + 1] = key
    faults[#faults + 1] = what
end
local page
if ARGV[2] == 'entries' then
    page = redis.call('HSCAN', META, ARGV[4], 'COUNT', ARGV[1])
    for i = 1, #page[2], 2 do
        local key, meta = page[2][i], cmsgpack.unpack(page[2][i + 1])
        local gone = expired(meta) or stale(meta)
        looked = looked + 1
        if not redis.call('ZSCORE', ALL, key) then fault(key, 'is not in order of storing') end
        local due = redis.call('ZSCORE', DUE, key)
        if due and meta[1] == 0 or not due and meta[1] > 0 then fault(key, 'expiry') end
        if not gone then
            -- An entry that the database evicted is found missing, and is no fault of ours.
            local bytes = redis.call('STRLEN', value_of(key))
            if bytes > 0 and bytes + #key ~= meta[4] then fault(key, 'size') end
            for _, tag in ipairs(meta[6]) do
                if not redis.call('ZSCORE', carriers(tag), key) then
                    fault(key, 'is not found by tag ' .. tag)
                end
                if redis.call('SISMEMBER', TAGS, tag) == 0 then
                    fault(key, 'no list of tags has ' .. tag)
                end
            end
        end
    end
else
    local tag = ARGV[3]
    page = redis.call('ZSCAN', carriers(tag), ARGV[4], 'COUNT', ARGV[1])
    for i = 1, #page[2], 2 do
        local key = page[2][i]
        local meta = read(key)
        if not meta then
            fault(key, 'is gone, and listed by tag ' .. tag)
        elseif not carries_all(meta, {tag}) then
            fault(key, 'does not carry the tag that lists it, ' .. tag)
        end
    end
end
return {page[1], looked, faults}
