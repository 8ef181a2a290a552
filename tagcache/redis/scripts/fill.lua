local key, tags, lease = ARGV[1], from(6), lease_of(ARGV[1])
if not lease or lease[1] ~= ARGV[2] then return 0 end
local fresh = not find(key) and not is_outdated(lease[2], tags, true)
-- If memory is full, this fails, and the lease is still out.
if fresh then store(key, ARGV[3], tags, ARGV[4], seq(), nil, nil, tonumber(ARGV[5])) end
end_lease(key, lease)
return fresh and 1 or 0
