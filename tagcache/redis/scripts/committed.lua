-- ARGV: ids. Returns 1 if one of these invalidations has happened.
for _, known in ipairs(redis.call('ZMSCORE', base .. 'commits', unpack(ARGV))) do
    if known then return 1 end
end
return 0
