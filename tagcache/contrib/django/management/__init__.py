"""The management of the application."""
