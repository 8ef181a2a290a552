"""The endpoints: one module for each group, with the routes beside the functions."""
