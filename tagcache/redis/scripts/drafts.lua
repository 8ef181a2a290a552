-- Shared by the scripts that change entries by what is stored.

-- The time in milliseconds, and what is stored under each key: false, or {value, expires ms or 0, time to
-- live, stored us, tags, record}.
local function state_of(keys)
    local found = {digits(now)}
    for i, key in ipairs(keys) do
        local packed = redis.call('HGET', META, key)
        local meta = packed and cmsgpack.unpack(packed)
        found[i + 1] = false
        if meta and is_live(key, meta) then
            local value = redis.call('GET', value_of(key))
            found[i + 1] = {value, digits(meta[1]), meta[3], digits(meta[2]), meta[6], packed}
        end
    end
    return found
end
