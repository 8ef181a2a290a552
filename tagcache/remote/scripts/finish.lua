-- ARGV: how many entries are removed at once, id. Carries out an invalidation that was noted here.
even_if_full()
local at, it = noted_as(ARGV[2])
if not at then return {0, 0, {}, {}} end
redis.call('HDEL', NOTED, at)
local late = tonumber(redis.call('HGET', LATE, at) or '0')
redis.call('HDEL', LATE, at)
local done = invalidate(it[1], tonumber(ARGV[1]), it[4])
done[1] = done[1] + late
return done
