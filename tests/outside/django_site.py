"""A Django site for uvicorn, with a cached page and a session for each visitor.

TAGCACHE_URL is the URL of the cache, TAGCACHE_OPTIONS (JSON) its OPTIONS, and SESSIONS the
SESSION_ENGINE.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import Any

import django
from django.conf import settings

told: list[str] = []


def on_error(error: Exception) -> None:
    told.append(type(error).__name__)


settings.configure(
    ALLOWED_HOSTS=["*"],
    DEBUG=False,
    SECRET_KEY="for tests",
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["django.contrib.sessions"],
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
    SESSION_ENGINE=os.environ.get("SESSIONS", "django.contrib.sessions.backends.cache"),
    LOGGING_CONFIG=None,
    CACHES={
        "default": {
            "BACKEND": "tagcache.contrib.django.TagCache",
            "LOCATION": os.environ["TAGCACHE_URL"],
            "OPTIONS": {
                "on_error": on_error,
                **json.loads(os.environ.get("TAGCACHE_OPTIONS", "{}")),
            },
        }
    },
)
django.setup()

from django.core.asgi import get_asgi_application  # noqa: E402 - after the settings
from django.core.cache import cache  # noqa: E402
from django.http import HttpRequest, JsonResponse  # noqa: E402
from django.urls import path  # noqa: E402

from tagcache.contrib.django.pages import cache_page  # noqa: E402

renderings = 0


def render() -> str:
    global renderings
    renderings += 1
    return "<h1>Front</h1>"


async def front(request: HttpRequest) -> JsonResponse:
    page = await cache.aget_or_set("front", render, 60, tags=["front"])
    return JsonResponse({"page": page, "renderings": renderings})


def front_in_a_thread(request: HttpRequest) -> JsonResponse:
    page = cache.get_or_set("front", render, 60, tags=["front"])
    return JsonResponse({"page": page, "renderings": renderings})


@cache_page(60, tags=["front"], wait=60)
async def page(request: HttpRequest) -> JsonResponse:
    render()
    await asyncio.sleep(0.2)
    return JsonResponse({"page": "<h1>Page</h1>"})


@cache_page(60, tags=["front"], wait=60)
def page_in_a_thread(request: HttpRequest) -> JsonResponse:
    render()
    time.sleep(0.2)
    return JsonResponse({"page": "<h1>Page</h1>"})


def count(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"renderings": renderings})


async def invalidate(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"removed": await cache.ainvalidate_tag("front")})


def visits(request: Any) -> JsonResponse:
    request.session["visits"] = request.session.get("visits", 0) + 1
    return JsonResponse({"visits": request.session["visits"]})


async def async_visits(request: Any) -> JsonResponse:
    seen = await request.session.aget("visits", 0) + 1
    await request.session.aset("visits", seen)
    return JsonResponse({"visits": seen})


@cache_page(60)
def seen(request: Any) -> JsonResponse:
    render()
    return JsonResponse({"visits": request.session.get("visits", 0)})


@cache_page(60, tags=["visits:{request.session[visits]}"])
async def async_seen(request: Any) -> JsonResponse:
    render()
    return JsonResponse({"visits": await request.session.aget("visits", 0)})


def errors(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"told": told})


urlpatterns = [
    path("front", front),
    path("front-in-a-thread", front_in_a_thread),
    path("page", page),
    path("page-in-a-thread", page_in_a_thread),
    path("count", count),
    path("invalidate", invalidate),
    path("visits", visits),
    path("async-visits", async_visits),
    path("seen", seen),
    path("async-seen", async_seen),
    path("errors", errors),
]
app = get_asgi_application()
