local page = redis.call('SSCAN', TAGS, ARGV[2], 'COUNT', ARGV[1])
local rows = {}
for _, tag in ipairs(page[2]) do
    if string.sub(tag, 1, #ARGV[3]) == ARGV[3] then
        local keys = redis.call('ZCOUNT', carriers(tag), '(' .. digits(now), '+inf')
        if keys > 0 then
            rows[#rows + 1] = {tag, keys, tonumber(redis.call('HGET', SUMS, 't:' .. tag) or '0')}
        end
    end
end
return {page[1], rows}
