local key, tags = ARGV[1], from(7)
local old = find(key)
local number, ttl = '0', ARGV[3]
if old then
    local text = redis.call('GET', value_of(key))
    -- Line feeds around it are escaped after this mark; see "Values that a line cannot hold" in
    -- docs/protocol.md.
    if string.sub(text, 1, 2) == '\\:' then text = string.gsub(string.sub(text, 3), '\\[nr]', ' ') end
    local sign, rest = string.match(text, '^%s*([+-]?)0*(%d-)%s*$')
    if not string.match(text, '^%s*[+-]?%d+%s*$') or #rest > 19 then return 'not an integer' end
    -- In a number of zeros only, the pattern takes all of them for leading ones.
    if rest == '' then rest, sign = '0', '' end
    number = (sign == '-' and '-' or '') .. rest
    if ARGV[6] == '1' then tags = old[6] end
    if ttl == '' then ttl = old[3] end
elseif ttl == '' then
    ttl = ARGV[4]
end
-- Numbers have 53 bits in Lua, and 64 in Redis.
local scratch = base .. 'nothing'
redis.call('SET', scratch, number)
local result = redis.pcall('INCRBY', scratch, ARGV[2])
number = redis.call('GET', scratch)
redis.call('DEL', scratch)
if type(result) == 'table' then
    return string.find(result.err, 'overflow', 1, true) and 'overflow' or 'not an integer'
end
if #number > tonumber(ARGV[5]) then return tostring(#number) end
store(key, number, tags, ttl, seq(), old)
return {number}
