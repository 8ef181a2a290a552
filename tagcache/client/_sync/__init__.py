# Generated from tagcache/client/_async/__init__.py by tools/unasync.py: do not edit.
"""Clients that await, from which ``make unasync`` generates the blocking ones."""
