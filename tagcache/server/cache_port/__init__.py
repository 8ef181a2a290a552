"""The cache port: its connections, whose framing the first byte chooses."""
