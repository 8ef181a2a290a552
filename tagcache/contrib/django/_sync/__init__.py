# Generated from tagcache/contrib/django/_async/__init__.py by tools/unasync.py: do not edit.
"""The asynchronous operations; ``make unasync`` generates the blocking ones from them."""
