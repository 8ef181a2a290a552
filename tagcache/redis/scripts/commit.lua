-- ARGV: id, milliseconds to keep it. Commits an invalidation: from now on it has happened.
allow_oom()
redis.call('ZADD', base .. 'commits', digits(now + tonumber(ARGV[2])), ARGV[1])
return 1
