local old = redis.call('LINDEX', base .. 'old', 0)
if not old then return 0 end
local o = base .. old .. ':'
local left = tonumber(ARGV[1])
-- Do not use HSCAN of `meta` from cursor 0: in a large table, each call would pass over the buckets
-- that earlier calls have emptied.
local popped, keys, values = redis.call('ZPOPMIN', o .. 'all', left), {}, {}
for i = 1, #popped, 2 do
    keys[#keys + 1] = popped[i]
    values[#values + 1] = prefix .. 'v:' .. part .. old .. ':' .. popped[i]
end
if #keys > 0 then
    redis.call('UNLINK', unpack(values))
    redis.call('HDEL', o .. 'meta', unpack(keys))
end
if redis.call('EXISTS', o .. 'all') == 1 then return 1 end
popped = redis.call('ZPOPMIN', o .. 'graces', left)
for i = 1, #popped, 2 do redis.call('UNLINK', o .. 's:' .. popped[i]) end
if redis.call('EXISTS', o .. 'graces') == 1 then return 1 end
for _, tag in ipairs(redis.call('SPOP', o .. 'tags', left)) do
    redis.call('UNLINK', o .. 't:' .. tag)
end
if redis.call('EXISTS', o .. 'tags') == 1 then return 1 end
for _, name in ipairs(redis.call('LRANGE', o .. 'dead', 0, -1)) do redis.call('UNLINK', name) end
for _, name in ipairs({
    'meta', 'due', 'gens', 'softgens', 'allgens', 'dead', 'late', 'sums', 'stale', 'leases', 'leased',
}) do
    redis.call('UNLINK', o .. name)
end
redis.call('LPOP', base .. 'old')
return redis.call('LLEN', base .. 'old')
