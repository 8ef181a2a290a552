-- Refuse a partition that was used at another server, or before this one was restarted: it may be older
-- than what clients were told. A partition in use without a home is one from before there were any.
if home ~= '' and held_by ~= home and (stored_epoch or redis.call('EXISTS', b .. 'meta', base .. 'seq') > 0) then
    return {err = 'HOME of this partition was ' .. held_by}
end

