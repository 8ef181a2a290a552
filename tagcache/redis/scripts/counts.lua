-- ARGV: hits, misses, puts of a server since its last call. Returns the counts of all servers.
allow_oom()
count('hits', tonumber(ARGV[1]))
count('misses', tonumber(ARGV[2]))
count('puts', tonumber(ARGV[3]))
return redis.call('HGETALL', COUNTS)
