"""The cache port; the first byte of a connection chooses its framing."""
