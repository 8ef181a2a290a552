local kept = held_by == home
for _, other in ipairs(ARGV) do kept = kept or other == held_by end
if kept then
    redis.call('SET', base .. 'epoch', epoch .. ':' .. home)
    return 1
end
allow_oom()
-- As if the numbers began anew: the last ones may be lost.
redis.call('SET', base .. 'seq', digits(math.max(now_us, seq() + 1)))
begin_epoch()
return 0
