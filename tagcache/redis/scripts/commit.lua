-- ARGV: id, for how many milliseconds to keep it. From here on the invalidation has happened.
even_if_full()
redis.call('ZADD', base .. 'commits', digits(now + tonumber(ARGV[2])), ARGV[1])
return 1
