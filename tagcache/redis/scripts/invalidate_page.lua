-- ARGV: number of entries, cursor, sequence number of the invalidation, tags. Removes the entries with all
-- of the tags that are older than the invalidation; looks for them in the index of the first tag. Returns
-- how many were removed, and the next cursor, '0' at the end.
local at, tags, removed = tonumber(ARGV[3]), from(4), 0
allow_oom()
local page = redis.call('ZSCAN', carriers(tags[1]), ARGV[2], 'COUNT', ARGV[1])
for i = 1, #page[2], 2 do
    if remove_older(page[2][i], at, tags) then removed = removed + 1 end
end
count('invalidations', removed)
return {removed, page[1]}
