-- ARGV: keys. Returns how many there were.
local removed = 0
even_if_full()
local at = next_seq()
for _, key in ipairs(ARGV) do
    -- No write outlives this that answers to a miss before it.
    redis.call('ZADD', KEY_GENS, digits(at), key)
    local meta = find(key)
    if meta then
        drop(key, meta)
        removed = removed + 1
    end
end
count('invalidations', removed)
return removed
