"""What every client does, whatever carries it."""
