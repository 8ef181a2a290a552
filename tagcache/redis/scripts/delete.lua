local gone = {}
allow_oom()
for _, key in ipairs(ARGV) do
    local meta = find(key)
    if meta then gone[#gone + 1] = {key, meta} end
    renew(key)
end
drop_all(gone)
count('invalidations', #gone)
return #gone
