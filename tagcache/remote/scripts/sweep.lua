-- ARGV: how many, how many generations to keep. Removes expired entries; returns how many.
local keys = redis.call('ZRANGEBYSCORE', DUE, '-inf', digits(now), 'LIMIT', 0, ARGV[1])
even_if_full()
for _, key in ipairs(keys) do
    local meta = read(key)
    if meta then
        drop_gone(key, meta, nil)
    else
        redis.call('ZREM', DUE, key)
    end
end
-- A generation is of use while an entry is stale by it, or was missed before it.
local over = redis.call('ZCARD', GENS) - tonumber(ARGV[2])
if over > 0 and redis.call('EXISTS', DEAD, COMBOS) == 0 then
    local oldest = redis.call('ZPOPMIN', GENS, math.min(over, 1000))
    redis.call('SET', base .. 'floor', oldest[#oldest])
end
return #keys
