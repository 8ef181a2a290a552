"""The cache itself: entries, tags, expiry and limits. It knows no sockets and no JSON."""
