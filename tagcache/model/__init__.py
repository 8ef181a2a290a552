"""The common model: the interfaces of the engines, limits, views of entries, counters."""
