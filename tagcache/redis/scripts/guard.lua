-- Refuse a partition that was used at another server, or before this one was restarted: it may be older
-- than what clients have seen. A partition in use without a home was written by an earlier version.
if home ~= '' and held_by ~= home and (stored_epoch or redis.call('EXISTS', b .. 'meta', base .. 'seq') > 0) then
    return {err = 'HOME of this partition was ' .. held_by}
end

