"""Clients of Redis that are not Python: redis-cli, redis-benchmark, and those of Node and PHP."""
