-- ARGV: key, and whether to tell more. A look-up that changes nothing. Returns the value, or the
-- sequence number at which it was missed. To tell more: the value, the number, the time left, the
-- tags, and invalidations by which it is gone if they have happened; so it is, too, where there are
-- such.
local base, key = KEYS[1], ARGV[1]
local epoch = redis.call('GET', base .. 'epoch') or '0'
local b = base .. epoch .. ':'
local packed = redis.call('HGET', b .. 'meta', key)
if packed then
    local meta, pending, left = cmsgpack.unpack(packed), nil, ''
    local live = true
    if meta[1] > 0 then
        local time = redis.call('TIME')
        left = meta[1] - (time[1] * 1000 + math.floor(time[2] / 1000))
        live = left > 0
    end
    if live and #meta[6] > 0 then
        for _, last in ipairs(redis.call('ZMSCORE', b .. 'gens', unpack(meta[6]))) do
            if last and tonumber(last) > meta[5] then live = false end
        end
        if live and redis.call('EXISTS', b .. 'noted') == 1 then
            local noted = redis.call('HGETALL', b .. 'noted')
            local carried = {}
            for _, tag in ipairs(meta[6]) do carried[tag] = true end
            for i = 1, #noted, 2 do
                if tonumber(noted[i]) > meta[5] then
                    local it, found = cmsgpack.unpack(noted[i + 1]), 0
                    for _, tag in ipairs(it[4]) do
                        if carried[tag] then found = found + 1 end
                    end
                    if found == #it[4] or it[1] == 'any' and found > 0 then
                        if it[2] == '' then
                            live = false
                        else
                            pending = pending or {}
                            pending[#pending + 1] = it[2]
                        end
                    end
                end
            end
        end
    end
    if live then
        local prefix, part = string.match(base, '^(.*)({[^{}]*}:)$')
        local value = redis.call('GET', prefix .. 'v:' .. part .. epoch .. ':' .. key)
        if value then
            if ARGV[2] or pending then
                local at = tonumber(redis.call('GET', base .. 'seq') or '0')
                return {value, at, string.format(left == '' and '' or '%.0f', left), meta[6], pending or {}}
            end
            return value
        end
    end
end
return tonumber(redis.call('GET', base .. 'seq') or '0')
