-- Shared by the scripts that report the totals of a partition; see TOTALS.
local function totals()
    local over = redis.call('ZCOUNT', DUE, '-inf', digits(now))
    local waiting = 0
    for _, name in ipairs(redis.call('LRANGE', DEAD, 0, -1)) do
        waiting = waiting + redis.call('ZCARD', name)
    end
    for _, old in ipairs(redis.call('LRANGE', base .. 'old', 0, -1)) do
        waiting = waiting + redis.call('HLEN', base .. old .. ':meta')
    end
    return {
        redis.call('HLEN', META) - over - counted_and_left(), redis.call('SCARD', TAGS),
        tonumber(redis.call('HGET', SUMS, 'bytes') or '0'), waiting,
        redis.call('HGETALL', COUNTS), redis.call('EXISTS', DEAD, base .. 'old'),
        redis.call('ZCOUNT', LEASED, '(' .. digits(now), '+inf'), redis.call('HLEN', STALE),
    }
end
