-- ARGV: hits, misses, puts of a server since it told last.
even_if_full()
count('hits', tonumber(ARGV[1]))
count('misses', tonumber(ARGV[2]))
count('puts', tonumber(ARGV[3]))
return redis.call('HGETALL', COUNTS)
