"""The configuration: the knobs, the sources of their values, and the faults in them."""
