"""The line protocol on a connection of the cache port."""
