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
local removed = 0
local popped = redis.call('ZPOPMIN', name, ARGV[1])
for i = 1, #popped, 2 do
    local meta = read(popped[i])
    -- Keep an entry that was stored since.
    if meta and stale(meta) then
        if is_counted(name) or was_counted(popped[i]) then
            -- Counted already.
        elseif expired(meta) then
            count('expirations', 1)
        else
            removed = removed + 1
        end
        drop(popped[i], meta)
    end
end
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
