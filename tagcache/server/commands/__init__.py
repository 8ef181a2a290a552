"""What clients may say on the cache port: one row and one function a command."""
