"""The engine in a Redis or Valkey server that several TagCache servers share."""
