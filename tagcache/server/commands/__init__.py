"""What each verb does, on the engine in this process and on Redis."""
