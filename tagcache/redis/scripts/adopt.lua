-- ARGV: homes of the other servers. Makes this server the home of the partition. It keeps the entries if
-- it had them from one of the others, which moved the slot; otherwise a new epoch begins, as they may be
-- older than what clients were told. Returns 1 if they are kept, otherwise 0.
local kept = held_by == home
for _, other in ipairs(ARGV) do kept = kept or other == held_by end
if kept then
    redis.call('SET', base .. 'epoch', epoch .. ':' .. home)
    return 1
end
allow_oom()
-- Above all leases, as if the numbers began anew: the last ones may be lost.
local at = math.max(now_us, seq() + 1)
redis.call('SET', base .. 'seq', digits(at))
begin_epoch(at)
return 0
