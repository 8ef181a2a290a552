"""The HTTP API: a protocol over httptools' parser, and a declarative table of routes."""
