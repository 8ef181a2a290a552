-- ARGV: tag. Returns the number of entries with it; -1 if one has to look at each of them.
if redis.call('EXISTS', DEAD) > 0 then return -1 end
return redis.call('ZCOUNT', carriers(ARGV[1]), '(' .. digits(now), '+inf')
