"""What everything stands on: the contract of the engines, limits, views of entries, numbers."""
