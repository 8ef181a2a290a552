"""The page: flask --app examples.flask_page.page run

TAGCACHE_URL names another server than tagcache://127.0.0.1:1984.
"""

from __future__ import annotations

import os
from datetime import datetime

from flask import Flask, abort, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from examples.flask_page import guest_book
from tagcache.contrib.flask_caching import Cache

app = Flask(__name__)
app.config.update(
    CACHE_TYPE="tagcache.contrib.flask_caching.TagCache",
    CACHE_TAGCACHE_URL=os.environ.get("TAGCACHE_URL", "tagcache://127.0.0.1:1984"),
    # Without a cache the pages are made for each request.
    CACHE_OPTIONS={"ignore_exc": True},
    CACHE_KEY_PREFIX="guests:",
)
cache = Cache(app)
# Characters that a guest may write.
LONGEST = 200


@app.get("/")
@cache.cached(timeout=3600, tags=["guests"])
def show() -> str:
    return page(None)


@app.get("/cities/<city>")
@cache.cached(timeout=3600, tags=lambda city: ["guests:" + city])
def show_city(city: str) -> str:
    return page(city)


def page(city: str | None) -> str:
    return render_template(
        "page.html",
        city=city,
        entries=guest_book.entries(city),
        made=datetime.now().astimezone().strftime("%H:%M:%S.%f")[:-3],
    )


@app.post("/")
def write() -> Response:
    name, city, text = (request.form.get(each, "").strip() for each in ("name", "city", "text"))
    if not (name and city and text) or max(len(name), len(city), len(text)) > LONGEST:
        abort(400, "name, city and text are needed, and must not be long")
    guest_book.add(name, city, text)
    return changed(city)


@app.post("/remove/<int:number>")
def remove(number: int) -> Response:
    city = guest_book.remove(number)
    return changed(city) if city is not None else abort(404)


def changed(city: str) -> Response:
    """Forget the pages that show the entries of a city, and go to the first page."""
    # The entry is committed. The pages of other cities stay.
    cache.invalidate_tags(["guests", f"guests:{city}"])
    return redirect(url_for("show"))
