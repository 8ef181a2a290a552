local at_once, kind, soft, tags = tonumber(ARGV[1]), ARGV[2], ARGV[3] ~= '', from(4)
-- In most partitions of a cluster there is nothing to do.
local concerned = redis.call('EXISTS', LEASES, GRACES)
for _, tag in ipairs(tags) do
    if concerned > 0 then break end
    concerned = redis.call('EXISTS', carriers(tag))
end
if concerned == 0 then return {0, 0, {}, {}} end
allow_oom()
local at, left, removed, keys = next_seq(), {}, 0, {}

-- Remove the entries of a tag that have all of `tags`; returns whether they were few enough.
local function remove_few(tag, tags)
    local size = redis.call('ZCARD', carriers(tag))
    if size == 0 then return true end
    notify_near(tag)
    if size > at_once then return false end
    at_once = at_once - size
    for _, entry in ipairs(remove_older(redis.call('ZRANGE', carriers(tag), 0, -1), at, tags, soft)) do
        removed = removed + 1
        if #keys < 256 then keys[#keys + 1] = entry[1] end
    end
    return true
end

if kind == 'all' then
    outdate(kind, soft, tags, at, false)
    put_rarest_first(tags)
    if not remove_few(tags[1], tags) then left = tags end
    count('invalidations', removed)
    return {removed, at, left, {}}
end
local many = {}
for _, tag in ipairs(tags) do
    if not remove_few(tag, {tag}) then many[#many + 1] = tag end
end
-- Record it after these few are removed, which it would otherwise make dead.
outdate(kind, soft, tags, at, #many > 0 and not soft)
if soft then
    count('invalidations', removed)
    return {removed, at, many, keys}
end
-- After that, all entries in the index are live, and none is in two dead sets.
local countable = #many == 1 and redis.call('EXISTS', DEAD) == 0
for i, tag in ipairs(many) do
    if redis.call('EXISTS', carriers(tag)) == 1 then
        local name = b .. 'd:' .. digits(at) .. ':' .. i .. (countable and ':c' or '')
        take_away(tag, name)
        if countable then
            local size = redis.call('ZCARD', name)
            local live = redis.call('ZCOUNT', name, '(' .. digits(now), '+inf')
            removed = removed + live
            count('expirations', size - live)
            keys = redis.call('ZRANGE', name, 0, 255)
        end
        redis.call('RPUSH', DEAD, name)
        left[#left + 1] = name
    end
end
count('invalidations', removed)
return {removed, at, left, keys}
