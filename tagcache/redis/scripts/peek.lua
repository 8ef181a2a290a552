-- ARGV: keys. Returns for each live entry a row, the value, and the ids of pending invalidations of it;
-- false for the others.
local found = {}
for i, key in ipairs(ARGV) do
    local meta = read(key)
    found[i] = false
    local pending = {}
    if meta and is_live(key, meta, pending) then
        found[i] = {row(key, meta), redis.call('GET', value_of(key)), pending}
    end
end
return found
