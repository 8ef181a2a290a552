-- ARGV: number of entries to remove at once, id. Applies an invalidation that was prepared.
allow_oom()
local at, it = noted_as(ARGV[2])
if not at then return {0, 0, {}, {}} end
redis.call('HDEL', NOTED, at)
local late = tonumber(redis.call('HGET', LATE, at) or '0')
redis.call('HDEL', LATE, at)
local done
if it[1] == 'all' then
    done = invalidate_all(tonumber(ARGV[1]), it[4], tonumber(at))
else
    done = invalidate_any(tonumber(ARGV[1]), it[4], tonumber(at), it[3])
end
done[1] = done[1] + late
return done
