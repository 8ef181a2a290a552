"""An SSH shell into the running server."""
