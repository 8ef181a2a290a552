"""The server: listeners, protocols, endpoints and maintenance."""
