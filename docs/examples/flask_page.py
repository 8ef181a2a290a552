"""A Flask site in one file: its pages stay in the cache until their post is saved.

    pip install '.[flask]'    # in a clone of TagCache
    tagcache server &
    python docs/examples/flask_page.py 8000

    curl http://127.0.0.1:8000/posts/1
    curl -d text='Good morning' http://127.0.0.1:8000/posts/1

TAGCACHE_URL names another server than tagcache://127.0.0.1:1984.
"""

from __future__ import annotations

import os
import sys
from itertools import count
from wsgiref.simple_server import make_server

from flask import Flask, abort, redirect, request
from markupsafe import escape
from werkzeug.wrappers import Response

from tagcache.contrib.flask_caching import Cache

app = Flask(__name__)
app.config.update(
    CACHE_TYPE="tagcache.contrib.flask_caching.TagCache",
    CACHE_TAGCACHE_URL=os.environ.get("TAGCACHE_URL", "tagcache://127.0.0.1:1984"),
    CACHE_OPTIONS={"ignore_exc": True},
    CACHE_KEY_PREFIX="page:",
)
cache = Cache(app)
renderings = count(1)
posts = {1: "Hello", 2: "Hello again"}


@app.get("/posts/<int:post_id>")
@cache.cached(timeout=3600, tags=lambda post_id: [f"post:{post_id}", "posts"])
def show(post_id: int) -> str:
    if post_id not in posts:
        abort(404)
    return f"<p>{escape(posts[post_id])}</p><small>rendering {next(renderings)}</small>\n"


@app.post("/posts/<int:post_id>")
def save(post_id: int) -> Response:
    posts[post_id] = request.form["text"]
    cache.invalidate_tag(f"post:{post_id}")
    return redirect(request.path)


def main() -> None:
    with make_server("127.0.0.1", int(sys.argv[1]), app) as server:
        print(f"http://127.0.0.1:{server.server_port}/posts/1", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
