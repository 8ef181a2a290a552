-- ARGV: number of entries, number of generations to keep. Removes expired entries, samples for evicted
-- ones, and forgets old generations. Returns how many expired entries it looked at, and whether there are
-- more evicted entries or old generations.
local keys = redis.call('ZRANGEBYSCORE', DUE, '-inf', digits(now), 'LIMIT', 0, ARGV[1])
allow_oom()
for _, key in ipairs(keys) do
    local meta = read(key)
    if meta then
        drop_dead(key, meta, nil)
    else
        redis.call('ZREM', DUE, key)
    end
end
-- A value that Redis evicted leaves its record and its place in the indexes. Samples find these entries:
-- a larger sample if the first has some, and another call if there are many.
local sampled, evicted = 0, 0
for _, size in ipairs({10, 100}) do
    for _, key in ipairs(redis.call('ZRANDMEMBER', DUE, size)) do
        local meta = read(key)
        sampled = sampled + 1
        if meta and redis.call('EXISTS', value_of(key)) == 0 then
            drop_dead(key, meta, stale(meta))
            evicted = evicted + 1
        end
    end
    if evicted == 0 then break end
end
-- A generation is needed while it makes an entry stale, or a lease outdated.
local more = 4 * evicted > sampled and 1 or 0
for _, gens in ipairs({GENS, ALL_GENS, KEY_GENS}) do
    local most = gens == ALL_GENS and 1000 or tonumber(ARGV[2])
    local over = redis.call('ZCARD', gens) - most
    if over > 0 and redis.call('EXISTS', DEAD) == 0 then
        local oldest = redis.call('ZPOPMIN', gens, math.min(over, 1000))
        local floor = tonumber(redis.call('GET', base .. 'floor') or '0')
        redis.call('SET', base .. 'floor', digits(math.max(floor, tonumber(oldest[#oldest]))))
        if over > 1000 then more = 1 end
    end
end
return {#keys, more}
