"""RESP, the protocol of Redis clients, on a connection of the cache port."""
