"""Measures a TagCache server, side by side with Redis, memcached and nginx where they are there.

``make bench`` runs everything; ``python -m benchmarks.report --help`` says what else there is.
"""
