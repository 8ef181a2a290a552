-- ARGV: keys. Returns their state.
return state_of(ARGV)
