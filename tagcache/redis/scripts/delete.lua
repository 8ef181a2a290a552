local removed = 0
allow_oom()
for _, key in ipairs(ARGV) do
    local meta = find(key)
    if meta then
        drop(key, meta)
        removed = removed + 1
    end
    renew(key)
end
count('invalidations', removed)
return removed
