-- ARGV: ids. Returns 1 if one of these invalidations is committed, otherwise 0.
for _, known in ipairs(redis.call('ZMSCORE', base .. 'commits', unpack(ARGV))) do
    if known then return 1 end
end
return 0
