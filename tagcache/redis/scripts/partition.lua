-- The beginning of every script. KEYS[1] is the root of a partition, with its hash tag; all other Redis keys
-- are derived from it, so they are in the same slot. The root itself never exists, so that Redis refuses
-- the whole script while the slot is being moved, when some of its keys are elsewhere.
--
-- `epoch` is '<number>:<home>'. The home is the run ID of the server that has the partition. It changes
-- when the server is restarted, or a replica takes over. The last argument of every script is the home
-- of the server to which the caller is connected, '' if that does not matter.
local base, home = KEYS[1], table.remove(ARGV)
local prefix, part = string.match(base, '^(.*)({[^{}]*}:)$')
local stored_epoch = redis.call('GET', base .. 'epoch')
local epoch, held_by = string.match(stored_epoch or '0:', '^(%d+):?(.*)$')
local b = base .. epoch .. ':'

