-- A look-up that changes nothing: the value, or the sequence number at which it was missed.
local base, key = KEYS[1], ARGV[1]
local b = base .. (redis.call('GET', base .. 'epoch') or '0') .. ':'
local packed = redis.call('HGET', b .. 'meta', key)
if packed then
    local meta = cmsgpack.unpack(packed)
    local live = true
    if meta[1] > 0 then
        local time = redis.call('TIME')
        live = meta[1] > time[1] * 1000 + math.floor(time[2] / 1000)
    end
    if live and #meta[6] > 0 then
        for _, last in ipairs(redis.call('ZMSCORE', b .. 'gens', unpack(meta[6]))) do
            if last and tonumber(last) > meta[5] then live = false end
        end
        if live and redis.call('EXISTS', b .. 'combos') == 1 then
            local combos = redis.call('HGETALL', b .. 'combos')
            local carried = {}
            for _, tag in ipairs(meta[6]) do carried[tag] = true end
            for i = 1, #combos, 2 do
                if tonumber(combos[i]) > meta[5] then
                    local all = true
                    for _, tag in ipairs(cmsgpack.unpack(combos[i + 1])) do
                        if not carried[tag] then all = false end
                    end
                    if all then live = false end
                end
            end
        end
    end
    if live then
        local value = redis.call('GET', b .. 'v:' .. key)
        if value then return value end
    end
end
return tonumber(redis.call('GET', base .. 'seq') or '0')
