-- ARGV: key, value, time to live or '', lease (the sequence number of a miss) or '', tags. Returns 1, or 0
-- if the lease is outdated.
local key, tags, at = ARGV[1], from(5), seq()
if ARGV[4] ~= '' then
    at = tonumber(ARGV[4])
    -- A lease from the future is from before the database was lost.
    if at > seq() then return 0 end
    if at < tonumber(redis.call('GET', base .. 'floor') or '0') then return 0 end
    -- The source has changed since the miss.
    if stale({[5] = at, [6] = tags}) then return 0 end
    local known = redis.call('ZSCORE', KEY_GENS, key)
    if known and tonumber(known) > at then return 0 end
    if #tags > 1 then
        for _, packed in ipairs(redis.call('ZRANGEBYSCORE', ALL_GENS, '(' .. ARGV[4], '+inf')) do
            if carries_all({[6] = tags}, cmsgpack.unpack(packed)) then return 0 end
        end
    end
    at = seq()
end
store(key, ARGV[2], tags, ARGV[3], at, find(key))
return 1
