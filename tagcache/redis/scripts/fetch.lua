local function grant(key, token, ms, most)
    begin_seq()
    if redis.call('ZCARD', LEASED) >= most then
        local first = redis.call('ZRANGE', LEASED, 0, 0)[1]
        local lease = lease_of(first)
        if lease then end_lease(first, lease) end
    end
    save_lease(key, {token, seq(), now + ms, '0'})
    redis.call('ZADD', LEASED, digits(now + ms), key)
end

-- The value and the tags of the stale entry of a key, or false and none.
local function stale_entry(key)
    local packed = redis.call('HGET', STALE, key)
    if packed then
        local old = cmsgpack.unpack(packed)
        local value = redis.call('GET', stale_value_of(key))
        if value and not is_outdated(old[1], old[2], false) then return value, old[2] end
    end
    return false, {}
end

local function look_up(key, more, token, ms, most)
    local meta = read(key)
    if meta and not expired(meta) and not stale(meta) then
        local value = redis.call('GET', value_of(key))
        if value then return more == '' and value or {value, meta[6]} end
    end
    -- A dead entry goes, or becomes stale.
    if meta then find(key) end
    local lease = lease_of(key)
    local value, tags = stale_entry(key)
    if not lease then
        grant(key, token, tonumber(ms), tonumber(most))
        return {0, value, tags}
    end
    if not value and lease[4] == '0' then
        lease[4] = '1'
        save_lease(key, lease)
    end
    return {lease[3] - now, value, tags}
end

allow_oom()
local found = {}
for i = 1, #ARGV, 5 do
    local fine, result = pcall(look_up, unpack(ARGV, i, i + 4))
    -- The error of one look-up must not fail the others.
    if not fine and type(result) ~= 'table' then result = {err = 'ERR ' .. result} end
    found[#found + 1] = result
end
return found
