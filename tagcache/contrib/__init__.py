"""TagCache for the frameworks that people already use; each module needs its extra only."""
