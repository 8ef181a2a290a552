"""The application: authors and posts."""
