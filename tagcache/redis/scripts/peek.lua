local found = {}
for i, key in ipairs(ARGV) do
    local meta = read(key)
    found[i] = false
    if meta and is_live(key, meta) then
        found[i] = {row(key, meta), redis.call('GET', value_of(key))}
    end
end
return found
