"""Observability: counters, samples, events, metrics, the log."""
