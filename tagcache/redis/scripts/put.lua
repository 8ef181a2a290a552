local key = ARGV[1]
store(key, ARGV[2], from(5), ARGV[3], seq(), find(key), nil, tonumber(ARGV[4]))
return 1
