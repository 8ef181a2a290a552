-- ARGV: keys. Returns how many entries existed.
local removed = 0
allow_oom()
local at = next_seq()
for _, key in ipairs(ARGV) do
    -- Refuses a later fill whose lease is from before.
    redis.call('ZADD', KEY_GENS, digits(at), key)
    local meta = find(key)
    if meta then
        drop(key, meta)
        removed = removed + 1
    end
end
count('invalidations', removed)
return removed
