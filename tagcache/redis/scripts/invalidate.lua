-- ARGV: how many entries are removed at once, 'any' or 'all', tags.
even_if_full()
return (ARGV[2] == 'all' and invalidate_all or invalidate_any)(tonumber(ARGV[1]), from(3))
