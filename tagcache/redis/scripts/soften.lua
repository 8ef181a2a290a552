local removed = 0
allow_oom()
for _, key in ipairs(ARGV) do
    local meta = find(key)
    if meta then
        soften(key, meta, now)
        removed = removed + 1
    end
    outdate_lease(key)
end
count('invalidations', removed)
return removed
