-- ARGV: keys. Returns a row and the value of each that exists, and invalidations by which it is gone
-- if they have happened; false for the others.
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
