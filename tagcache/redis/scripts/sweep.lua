local keys = redis.call('ZRANGEBYSCORE', DUE, '-inf', digits(now), 'LIMIT', 0, ARGV[1])
allow_oom()
local is_dead, gone = redis.call('EXISTS', DEAD) == 1, {}
for _, key in ipairs(keys) do
    local meta = read(key)
    if not meta then
        redis.call('ZREM', DUE, key)
    elseif is_dead or meta[7] then
        drop_dead(key, meta, meta[7] and stale(meta))
    else
        gone[#gone + 1] = {key, meta}
    end
end
drop_all(gone)
count('expirations', #gone)
-- A value that Redis evicted leaves its record and its place in the indexes. Samples find these entries:
-- a larger sample if the first has some, and another call if there are many. With smaller samples, a call
-- would now and then see none though a third of the values are gone.
local sampled, evicted = 0, 0
for _, size in ipairs({20, 100}) do
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
local more = 5 * evicted > sampled and 1 or 0
-- Remove expired leases, and graces that have ended.
for _, key in ipairs(redis.call('ZRANGEBYSCORE', LEASED, '-inf', digits(now), 'LIMIT', 0, ARGV[1])) do
    redis.call('HDEL', LEASES, key)
    redis.call('ZREM', LEASED, key)
end
local over = redis.call('ZRANGEBYSCORE', GRACES, '-inf', digits(now), 'LIMIT', 0, ARGV[1])
for _, key in ipairs(over) do
    redis.call('ZREM', GRACES, key)
    redis.call('HDEL', STALE, key)
    redis.call('UNLINK', stale_value_of(key))
end
if #over == tonumber(ARGV[1]) then more = 1 end
-- A generation is needed while it makes an entry dead or stale, or a lease outdated.
if not is_dead and redis.call('EXISTS', LEASES, GRACES) == 0 then
    redis.call('UNLINK', GENS, SOFT_GENS, ALL_GENS)
end
for _, gens in ipairs({GENS, SOFT_GENS, ALL_GENS}) do
    local most = gens == ALL_GENS and 1000 or tonumber(ARGV[2])
    local over = redis.call('ZCARD', gens) - most
    if over > 0 and not is_dead then
        local oldest = redis.call('ZPOPMIN', gens, math.min(over, 1000))
        local floor = tonumber(redis.call('GET', base .. 'floor') or '0')
        redis.call('SET', base .. 'floor', digits(math.max(floor, tonumber(oldest[#oldest]))))
        if over > 1000 then more = 1 end
    end
end
-- The server that began an invalidation may still read the late counts, but not after a minute.
if not is_dead and redis.call('PTTL', LATE) == -1 then redis.call('PEXPIRE', LATE, 60000) end
if #keys == tonumber(ARGV[1]) then more = 1 end
return {more, totals()}
