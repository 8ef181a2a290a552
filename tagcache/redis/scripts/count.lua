-- ARGV: tag. Returns how many entries carry it; -1 if that can only be told by looking at each.
if redis.call('EXISTS', NOTED, DEAD) > 0 then return -1 end
return redis.call('ZCOUNT', carriers(ARGV[1]), '(' .. digits(now), '+inf')
