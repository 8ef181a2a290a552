local number, keys, old = tonumber(ARGV[2]), {ARGV[1]}, {}
for n = 2, number do keys[n] = ARGV[n + 1] end
for n, key in ipairs(keys) do
    old[key] = find(key)
    if (redis.call('HGET', META, key) or '') ~= ARGV[number + 1 + n] then return state_of(keys) end
end
local i, gone, removed, at = 2 * number + 2, {}, 0, seq()
while i <= #ARGV do
    local key, expires, tags = ARGV[i], tonumber(ARGV[i + 2]), {}
    local last = i + 4 + tonumber(ARGV[i + 4])
    if expires and expires <= now then
        gone[#gone + 1] = key
    else
        for n = i + 5, last do tags[#tags + 1] = ARGV[n] end
        store(key, ARGV[i + 1], tags, ARGV[i + 3], at, old[key], expires)
        -- Each entry has a different time, because the next page of a list begins at a time.
        now_us = now_us + 1
    end
    i = last + 1
end
-- Remove last: if memory is full, the first store is refused, and nothing has changed.
if #gone > 0 then
    allow_oom()
    for _, key in ipairs(gone) do
        if old[key] then
            drop(key, old[key])
            removed = removed + 1
        end
        renew(key)
    end
    count('invalidations', removed)
end
return removed
