-- Leaves everything behind under the names of an epoch that is over. Returns how many there were,
-- or -1 where invalidated entries have to be removed first to tell; ARGV: '' or 'now'.
even_if_full()
if ARGV[1] == '' and not is_exact() then return -1 end
local removed = redis.call('HLEN', META) - counted_and_left()
local over = redis.call('ZCOUNT', DUE, '-inf', digits(now))
removed = removed - over
count('expirations', over)
count('invalidations', removed)
redis.call('SET', base .. 'floor', digits(next_seq()))
redis.call('SET', base .. 'epoch', digits(tonumber(epoch) + 1))
redis.call('RPUSH', base .. 'old', epoch)
-- Caches near the servers watch this name.
redis.call('SET', prefix .. 'f:' .. part, '')
redis.call('DEL', prefix .. 'f:' .. part)
return removed
