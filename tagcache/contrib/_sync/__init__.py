# Generated from tagcache/contrib/_async/__init__.py by tools/unasync.py: do not edit.
"""One half of the backends: ``make unasync`` generates the blocking half from the other one."""
