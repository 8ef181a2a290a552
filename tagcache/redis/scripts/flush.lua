-- ARGV: '' or 'now'. Begins a new epoch; all entries stay behind in the old one, for reclaim. Returns
-- how many there were; without 'now', -1 if uncounted dead entries have to be removed first.
allow_oom()
if ARGV[1] == '' and not is_exact() then return -1 end
local removed = redis.call('HLEN', META) - counted_and_left()
local over = redis.call('ZCOUNT', DUE, '-inf', digits(now))
removed = removed - over
count('expirations', over)
count('invalidations', removed)
begin_epoch(next_seq())
return removed
