-- ARGV: id, 'any' or 'all', tags. Prepares an invalidation that is to happen in all partitions at one
-- moment: look-ups that meet it ask whether it is committed. Returns 1 if it was noted here, 0 if there
-- was nothing to remove and it is complete here.
local id, kind, tags = ARGV[1], ARGV[2], from(3)
allow_oom()
if noted_as(id) then return 1 end
local carried = 0
for _, tag in ipairs(tags) do carried = carried + redis.call('EXISTS', carriers(tag)) end
local at = next_seq()
if carried == 0 or kind == 'all' and carried < #tags then
    outdate(kind, tags, at)
    return 0
end
-- Near caches are notified now, not when it is applied: that may be late or never. A look-up from now on
-- meets the noted invalidation, and its result is not kept near.
if kind == 'all' then put_rarest_first(tags) end
for i = 1, kind == 'all' and 1 or #tags do notify_near(tags[i]) end
redis.call('HSET', NOTED, digits(at), cmsgpack.pack({kind, id, now, tags}))
return 1
