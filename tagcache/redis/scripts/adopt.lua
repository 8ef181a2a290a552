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
