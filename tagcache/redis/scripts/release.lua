local lease = lease_of(ARGV[1])
if not lease or lease[1] ~= ARGV[2] then return 0 end
end_lease(ARGV[1], lease)
return 1
