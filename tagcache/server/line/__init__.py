"""The line protocol on a connection."""
