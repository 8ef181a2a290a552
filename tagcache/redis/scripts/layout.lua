local recorded = redis.call('GET', base .. 'layout') or ''
if recorded == '' and ARGV[1] ~= '' then
    recorded = ARGV[1]
    -- Allow the next command in a full database.
    redis.call('DEL', base .. 'nothing')
    redis.call('SET', base .. 'layout', recorded)
end
return {recorded, redis.call('EXISTS', b .. 'meta', base .. 'seq', base .. 'epoch')}
