# Generated from tagcache/client/_async/__init__.py by tools/unasync.py: do not edit.
"""One half of the clients: ``make unasync`` generates the blocking half from the other one."""
