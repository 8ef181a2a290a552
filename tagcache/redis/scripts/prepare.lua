-- ARGV: id, 'any' or 'all', tags. Notes an invalidation that is to happen in all partitions at one
-- moment: look-ups that meet it ask whether it has happened. Returns whether there is anything to
-- remove here; where there is not, it is through with.
local id, kind, tags = ARGV[1], ARGV[2], from(3)
even_if_full()
if noted_as(id) then return 1 end
local carried = 0
for _, tag in ipairs(tags) do carried = carried + redis.call('EXISTS', carriers(tag)) end
local at = next_seq()
if carried == 0 or kind == 'all' and carried < #tags then
    outdate(kind, tags, at)
    return 0
end
-- Here, and not when it is carried out: whoever is to do that may be gone or slow when it has happened
-- already. What is looked up from now on meets the note, and is not kept near.
if kind == 'all' then put_rarest_first(tags) end
for i = 1, kind == 'all' and 1 or #tags do tell(tags[i]) end
redis.call('HSET', NOTED, digits(at), cmsgpack.pack({kind, id, now, tags}))
return 1
