local key = ARGV[1]
if find(key) then return 0 end
store(key, ARGV[2], from(4), ARGV[3], seq(), nil)
return 1
