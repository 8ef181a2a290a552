# Generated from tagcache/contrib/django/_async/__init__.py by tools/unasync.py: do not edit.
"""Backends that await, from which ``make unasync`` generates the blocking ones."""
