"""The configuration: the knobs, where their values come from, and what is wrong with them."""
