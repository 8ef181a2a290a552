"""Background maintenance: expiry, snapshots, garbage collection, slices of long work."""
