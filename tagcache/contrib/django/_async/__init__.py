"""Backends that await, from which ``make unasync`` generates the blocking ones."""
