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
        local is_dead = expired(meta) or stale(meta)
        looked = looked + 1
        if not redis.call('ZSCORE', ALL, key) then fault(key, 'is missing in the order of storing') end
        local due = redis.call('ZSCORE', DUE, key)
        if due and meta[1] == 0 or not due and meta[1] > 0 then fault(key, 'has the wrong expiry') end
        if not is_dead then
            -- A missing value was evicted by Redis, which is no fault.
            local bytes = redis.call('STRLEN', value_of(key))
            if bytes > 0 and bytes + #key ~= meta[4] then fault(key, 'has the wrong size') end
            for _, tag in ipairs(meta[6]) do
                if not redis.call('ZSCORE', carriers(tag), key) then
                    fault(key, 'is missing in the index of tag ' .. tag)
                end
                if redis.call('SISMEMBER', TAGS, tag) == 0 then
                    fault(key, 'has a tag that is missing in the list of tags, ' .. tag)
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
            fault(key, 'does not exist, but is in the index of tag ' .. tag)
        elseif not carries_all(meta, {tag}) then
            fault(key, 'is in the index of a tag that it does not have, ' .. tag)
        end
    end
end
return {page[1], looked, faults}
