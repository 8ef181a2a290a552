"""What can be seen of the server: counters, samples, events, metrics, the log."""
