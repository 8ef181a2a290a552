"""Codecs: bytes to requests and replies, and back, without any I/O."""
