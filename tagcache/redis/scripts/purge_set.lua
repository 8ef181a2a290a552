local name, helping = ARGV[2], ARGV[2] == ''
allow_oom()
if helping then
    local names = redis.call('LRANGE', DEAD, 0, -1)
    for i = #names, 1, -1 do
        if ARGV[3] == 'any' or not is_counted(names[i]) then name = names[i] end
    end
    if name == '' then return {0, 0} end
end
local at = string.match(name, ':d:(%d+):%d+')
local popped = redis.call('ZPOPMIN', name, ARGV[1])
local entries, tags, last_of = {}, {}, {}
for i = 1, #popped, 2 do
    local meta = read(popped[i])
    if meta then
        entries[#entries + 1] = {popped[i], meta}
        for _, tag in ipairs(meta[6]) do
            if not last_of[tag] then tags[#tags + 1], last_of[tag] = tag, 0 end
        end
    end
end
-- As `stale`, with few calls. The number of values for `unpack` is limited.
for first = 1, #tags, 4000 do
    local some = {unpack(tags, first, math.min(first + 3999, #tags))}
    for i, last in ipairs(redis.call('ZMSCORE', GENS, unpack(some))) do
        last_of[some[i]] = tonumber(last or 0)
    end
end
local removed, over, gone = 0, 0, {}
for _, entry in ipairs(entries) do
    local key, meta = entry[1], entry[2]
    local is_stale = false
    for _, tag in ipairs(meta[6]) do is_stale = is_stale or last_of[tag] > meta[5] end
    -- Keep an entry that was stored since.
    if is_stale then
        gone[#gone + 1] = entry
        if is_counted(name) or was_counted(key) then
            -- Counted already.
        elseif expired(meta) then
            over = over + 1
        else
            removed = removed + 1
        end
    end
end
drop_all(gone)
count('expirations', over)
count('invalidations', removed)
local left = redis.call('EXISTS', name)
if left == 0 then redis.call('LREM', DEAD, 1, name) end
if helping then
    if removed > 0 then redis.call('HINCRBY', LATE, at, removed) end
    return {removed, 1}
end
if left == 0 then
    removed = removed + tonumber(redis.call('HGET', LATE, at) or '0')
    redis.call('HDEL', LATE, at)
end
return {removed, left}
