"""A Django site for uvicorn with pages, fragments and sessions in a cache.

CACHE_URL is that of the cache, CACHE_BACKEND its class, and CACHE_OPTIONS (JSON) its OPTIONS.
"""

from __future__ import annotations

import json
import os
from typing import Any

import django
from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["*"],
    SECRET_KEY="for tests",
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["django.contrib.sessions"],
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
    SESSION_ENGINE="django.contrib.sessions.backends.cache",
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
    LOGGING_CONFIG=None,
    CACHES={
        "default": {
            "BACKEND": os.environ["CACHE_BACKEND"],
            "LOCATION": os.environ["CACHE_URL"],
            "OPTIONS": json.loads(os.environ.get("CACHE_OPTIONS", "{}")),
            "KEY_PREFIX": "site",
        }
    },
)
django.setup()

from django.core.asgi import get_asgi_application  # noqa: E402 - after the settings
from django.core.cache import cache  # noqa: E402
from django.http import HttpRequest, HttpResponse, JsonResponse  # noqa: E402
from django.template import engines  # noqa: E402
from django.urls import path  # noqa: E402
from django.views.decorators.cache import cache_page  # noqa: E402

renderings = 0
FRAGMENT = "{% load cache %}{% cache 60 part %}rendering {{ render }}{% endcache %}"


def render() -> int:
    global renderings
    renderings += 1
    return renderings


@cache_page(60)
def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"rendering {render()}")


def fragment(request: HttpRequest) -> HttpResponse:
    return HttpResponse(engines["django"].from_string(FRAGMENT).render({"render": render}))


def visits(request: Any) -> JsonResponse:
    request.session["visits"] = request.session.get("visits", 0) + 1
    return JsonResponse({"visits": request.session["visits"]})


def leave(request: Any) -> JsonResponse:
    request.session.flush()
    return JsonResponse({})


def values(request: HttpRequest) -> JsonResponse:
    """Use what every backend of Django has."""
    found: dict[str, Any] = {}
    cache.set_many({"a": 1, "b": [2, {"c": None}]}, 60)
    found["get many"] = cache.get_many(["a", "b", "missing"])
    found["incr"] = cache.incr("a", 41)
    found["add"] = [cache.add("a", 5), cache.add("new", 5, 60)]
    found["touch"] = [cache.touch("a", 60), cache.touch("missing", 60)]
    found["get or set"] = cache.get_or_set("computed", lambda: "once", 60)
    cache.delete_many(["a", "b"])
    found["left"] = [cache.has_key(key) for key in ("a", "b", "new")]
    found["delete"] = [cache.delete("new"), cache.delete("new")]
    return JsonResponse(found)


def django_redis_only(request: HttpRequest) -> JsonResponse:
    """Use what django-redis adds."""
    found: dict[str, Any] = {}
    cache.set("k", "v", timeout=60)
    found["ttl"] = [cache.ttl("k"), cache.ttl("missing")]
    found["persist"] = [cache.persist("k"), cache.ttl("k")]
    found["expire"] = [cache.expire("k", timeout=30), cache.ttl("k")]
    found["pexpire"] = [cache.pexpire("k", timeout=30_000), cache.pttl("k") > 29_000]
    cache.set("post:1", 1)
    cache.set("post:2", 2)
    found["keys"] = sorted(cache.keys("post:*"))
    found["iter_keys"] = sorted(cache.iter_keys("post:*"))
    found["incr"] = [cache.incr("post:1"), cache.decr("post:2")]
    found["incr of a new key"] = cache.incr("post:3", ignore_key_check=True)
    found["nx"] = [cache.set("k", "w", nx=True), cache.get("k")]
    found["delete_pattern"] = [cache.delete_pattern("post:*"), cache.keys("post:*")]
    with cache.lock("lock", timeout=60):
        other = cache.lock("lock", timeout=60)
        found["lock"] = other.acquire(blocking=False)
    found["after the lock"] = cache.has_key("lock")
    cache.set("text", "long " * 1000)
    found["long"] = cache.get("text") == "long " * 1000
    return JsonResponse(found)


urlpatterns = [
    path("page", page),
    path("fragment", fragment),
    path("visits", visits),
    path("leave", leave),
    path("values", values),
    path("django-redis", django_redis_only),
]
app = get_asgi_application()
