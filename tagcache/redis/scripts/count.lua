if redis.call('EXISTS', DEAD) > 0 then return -1 end
return redis.call('ZCOUNT', carriers(ARGV[1]), '(' .. digits(now), '+inf')
