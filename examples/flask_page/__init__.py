"""A guest book, whose page is cached."""
