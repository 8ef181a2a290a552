"""The race of a cache beside a database, with the usual recipe: the old value stays.

Run it with the URL of a Redis server, or of TagCache: python docs/examples/stale_redis.py URL
"""

import sys

import redis

cache = redis.Redis.from_url(sys.argv[1], decode_responses=True)
database = {"post:1": "old title"}

# A reader finds nothing in the cache, and reads the database.
cache.delete("page:1")
assert cache.get("page:1") is None
title = database["post:1"]

# Meanwhile somebody changes the post, and removes what was made of it.
database["post:1"] = "new title"
cache.delete("page:1")

# The reader stores what it had read. Nothing will remove that for an hour.
cache.set("page:1", title, ex=3600)

print("the database says:", database["post:1"])
print("the cache says:   ", cache.get("page:1"))
