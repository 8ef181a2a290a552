local function pick(some)
    for _, key in ipairs(redis.call('ZRANDMEMBER', ALL, some)) do
        local meta = read(key)
        if meta and is_live(key, meta) then return key end
    end
    return false
end
-- Without the minus sign, Redis returns all of a few entries in their order: this finds the last live ones.
return pick(-10) or pick(ARGV[1])
