-- ARGV: key, value, time to live or '', tags. Returns 1 if it was stored, 0 if the entry existed.
local key = ARGV[1]
if find(key) then return 0 end
store(key, ARGV[2], from(4), ARGV[3], seq(), nil)
return 1
