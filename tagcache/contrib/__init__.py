"""TagCache for other frameworks; each module needs only its own extra."""
