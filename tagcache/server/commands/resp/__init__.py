"""The commands of Redis clients, and those for tags."""
