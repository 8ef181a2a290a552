-- ARGV: keys. Returns how many there were.
local removed = 0
even_if_full()
for _, key in ipairs(ARGV) do
    local meta = find(key)
    if meta then
        drop(key, meta)
        removed = removed + 1
    end
end
count('invalidations', removed)
return removed
