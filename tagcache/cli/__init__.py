"""The ``tagcache`` command."""
