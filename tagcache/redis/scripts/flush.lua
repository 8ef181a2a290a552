allow_oom()
if ARGV[1] == '' and not is_exact() then return -1 end
local removed = redis.call('HLEN', META) - counted_and_left()
local over = redis.call('ZCOUNT', DUE, '-inf', digits(now))
removed = removed - over
count('expirations', over)
count('invalidations', removed)
begin_epoch()
return removed
