local function pick(some)
    for _, key in ipairs(redis.call('ZRANDMEMBER', ALL, some)) do
        local meta = read(key)
        if meta and is_live(key, meta) then return key end
    end
    return false
end
-- Without the sign, all of few entries are returned, in their order: that finds the last live ones.
return pick(-10) or pick(ARGV[1])
