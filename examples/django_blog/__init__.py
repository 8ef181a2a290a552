"""A blog, whose pages and fragments are cached until a post or an author changes."""
