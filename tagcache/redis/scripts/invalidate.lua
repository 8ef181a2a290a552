-- ARGV: number of entries to remove at once, 'any' or 'all', tags. Returns what invalidate_any does.
allow_oom()
return (ARGV[2] == 'all' and invalidate_all or invalidate_any)(tonumber(ARGV[1]), from(3))
