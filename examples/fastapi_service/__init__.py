"""A service for books and their reviews, whose responses are cached."""
