-- ARGV: how many entries are removed at once, 'any' or 'all', tags.
even_if_full()
return invalidate(ARGV[2], tonumber(ARGV[1]), from(3))
