"""The commands of the cache port: one row and one function for each."""
