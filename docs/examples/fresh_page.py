"""The same race with a lease: the old value is not stored.

Run it with the URL of TagCache: python docs/examples/fresh_page.py redis://127.0.0.1:1984/0
"""

import sys

import redis

cache = redis.Redis.from_url(sys.argv[1], decode_responses=True)
database = {"post:1": "old title"}

# A reader finds nothing in the cache, takes the lease, and reads the database.
cache.delete("page:1")
state, _, token = cache.execute_command("TAG.FETCH", "page:1", "LEASE", 5000)
assert state == "LEASE"
title = database["post:1"]

# Meanwhile somebody changes the post, and invalidates what was made of it.
database["post:1"] = "new title"
cache.execute_command("TAG.INVALIDATE", 1, "post:1")

# The reader stores what it had read, under its lease.
store = ("TAG.SET", "page:1", title, "EX", 3600, "LEASE", token, "TAGS", 1, "post:1")
if cache.execute_command(*store) is None:
    print("the store of the old title was refused")

# The next one computes the value again.
state, _, token = cache.execute_command("TAG.FETCH", "page:1", "LEASE", 5000)
store = ("TAG.SET", "page:1", database["post:1"], "EX", 3600, "LEASE", token, "TAGS", 1, "post:1")
cache.execute_command(*store)

print("the database says:", database["post:1"])
print("the cache says:   ", cache.get("page:1"))
