-- ARGV: how many, a set that invalidate_any named, or '' for the oldest. Removes entries that
-- ceased to exist. Returns how many were removed and whether some are left.
local name = ARGV[2]
local helping = name == ''
even_if_full()
if helping then
    name = redis.call('LINDEX', DEAD, 0)
    if not name then
        -- Whoever began an invalidation may be about to look; a minute later nobody is.
        if redis.call('EXISTS', NOTED) == 0 and redis.call('PTTL', LATE) == -1 then
            redis.call('PEXPIRE', LATE, 60000)
        end
        return {0, 0}
    end
end
local at = string.match(name, ':d:(%d+):%d+$')
local removed = 0
local popped = redis.call('ZPOPMIN', name, ARGV[1])
for i = 1, #popped, 2 do
    local meta = read(popped[i])
    if meta and stale(meta) then
        if expired(meta) then
            count('expirations', 1)
        else
            removed = removed + 1
        end
        drop(popped[i], meta)
    end
end
count('invalidations', removed)
if helping then
    if removed > 0 then redis.call('HINCRBY', LATE, at, removed) end
    if redis.call('EXISTS', name) == 0 then redis.call('LREM', DEAD, 1, name) end
    return {removed, redis.call('LLEN', DEAD)}
end
local left = redis.call('EXISTS', name)
if left == 0 then
    redis.call('LREM', DEAD, 1, name)
    removed = removed + tonumber(redis.call('HGET', LATE, at) or '0')
    redis.call('HDEL', LATE, at)
end
return {removed, left}
