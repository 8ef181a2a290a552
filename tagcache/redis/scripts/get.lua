local values = prefix .. 'v:' .. part .. epoch .. ':'
-- Without generations and graces, each value that is there is the one of a live entry: no entry is dead
-- and not removed yet, and Redis itself removes the value when the entry expires.
local only_live = redis.call('EXISTS', GENS, GRACES) == 0
local ms = nil

-- The time, read once, and only if needed.
local function time()
    if not ms then
        local told = redis.call('TIME')
        ms = told[1] * 1000 + math.floor(told[2] / 1000)
    end
    return ms
end

local function is_alive(meta)
    local tags = meta[6]
    -- Even if the value is still there, the time to live that is left must not be 0.
    if meta[1] > 0 and meta[1] <= time() then return false end
    if only_live or #tags == 0 then return true end
    for _, last in ipairs(redis.call('ZMSCORE', GENS, unpack(tags))) do
        if last and tonumber(last) > meta[5] then return false end
    end
    return true
end

local function look_up(key, more)
    if only_live and more == '' then return redis.call('GET', values .. key) end
    local packed = redis.call('HGET', META, key)
    if not packed then return false end
    local meta = cmsgpack.unpack(packed)
    local value = is_alive(meta) and redis.call('GET', values .. key)
    if not value then return false end
    if more == '' then return value end
    local left = meta[1] > 0 and string.format('%.0f', meta[1] - time()) or ''
    return {value, left, meta[6]}
end

local found = {}
for i = 1, #ARGV, 2 do
    local fine, result = pcall(look_up, ARGV[i], ARGV[i + 1])
    -- The error of one look-up must not fail the others.
    if not fine and type(result) ~= 'table' then result = {err = 'ERR ' .. result} end
    found[#found + 1] = result
end
return found
