"""Connections: listeners, endpoints, transports, and what every protocol does for its clients."""
