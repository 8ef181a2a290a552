local page = redis.call('HSCAN', META, ARGV[2], 'COUNT', ARGV[1])
local keys = {}
for i = 1, #page[2], 2 do
    local key = page[2][i]
    if is_live(key, cmsgpack.unpack(page[2][i + 1])) then keys[#keys + 1] = key end
end
return {page[1], #page[2] / 2, keys}
