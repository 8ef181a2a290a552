"""The cache itself: entries, tags, expiry and limits. It knows nothing of sockets or JSON."""
