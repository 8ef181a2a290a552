"""What every client does, over any network."""
