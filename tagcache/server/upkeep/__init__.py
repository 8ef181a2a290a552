"""Maintenance besides requests: expiry, snapshots, garbage collection, slices of long work."""
