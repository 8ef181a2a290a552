return state_of(ARGV)
