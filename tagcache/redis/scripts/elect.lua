local name, token, ms = base .. 'elected', ARGV[1], ARGV[2]
-- '<token of the elected server> <its last report>'
local holder, report = string.match(redis.call('GET', name) or '', '^(%d+) (.*)$')
if holder and holder ~= token then return {0, report} end
allow_oom()
if ms == '0' then
    redis.call('DEL', name)
else
    redis.call('SET', name, token .. ' ' .. ARGV[3], 'PX', ms)
end
return {1, report or ''}
