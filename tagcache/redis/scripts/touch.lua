local old = find(ARGV[1])
if not old then return 0 end
store(ARGV[1], redis.call('GET', value_of(ARGV[1])), old[6], ARGV[2], seq(), old)
return 1
