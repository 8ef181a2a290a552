"""Work beside requests: expiry, snapshots, garbage collection, and how long work is sliced."""
