"""Measures a TagCache server beside Redis, memcached and nginx, if they are installed.

``make bench`` runs everything. ``python -m benchmarks.report --help`` lists the options.
"""
