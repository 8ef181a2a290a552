"""A Django site in one file that stores without tags: the server's tag rules make them of its keys.

    pip install '.[django]' redis    # in a clone of TagCache
    tagcache server --config docs/examples/django_rules.conf &
    python docs/examples/django_rules.py 8000

    curl http://127.0.0.1:8000/posts/1
    curl http://127.0.0.1:8000/posts/
    curl -d text='Good morning' http://127.0.0.1:8000/posts/1

The cache is Django's own RedisCache. Only the signal at the end knows of tags. CACHE_URL is the
LOCATION of another server, CACHE_BACKEND names another backend of Django, and TAGCACHE_URL another
server than tagcache://127.0.0.1:1984 for invalidations.
"""

from __future__ import annotations

import os
import sys
import tempfile
from itertools import count
from pathlib import Path
from typing import Any
from wsgiref.simple_server import make_server

import django
from django.conf import settings

from tagcache import Client

REDIS_CACHE = "django.core.cache.backends.redis.RedisCache"
TAGCACHE_URL = os.environ.get("TAGCACHE_URL", "tagcache://127.0.0.1:1984")

settings.configure(
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": Path(tempfile.mkdtemp()) / "posts.sqlite3",
        }
    },
    CACHES={
        "default": {
            "BACKEND": os.environ.get("CACHE_BACKEND", REDIS_CACHE),
            "LOCATION": os.environ.get("CACHE_URL", "redis://127.0.0.1:1984/0"),
        }
    },
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
)
django.setup()

from django.core.cache import cache  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db import connection, models  # noqa: E402
from django.db.models.signals import post_delete, post_save  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.shortcuts import get_object_or_404, redirect  # noqa: E402
from django.template import engines  # noqa: E402
from django.urls import path  # noqa: E402
from django.views.decorators.cache import cache_control, cache_page  # noqa: E402

renderings = count(1)
page = engines["django"].from_string(
    "{% load cache %}<p>{{ post.text }}</p><p>{{ words }} words</p>"
    "{% cache 3600 footer %}<p>{{ posts.count }} posts</p>{% endcache %}"
    "<small>rendering {{ rendering }}</small>\n"
)


class Post(models.Model):
    text = models.TextField()

    class Meta:
        app_label = "posts"


def words(post: Post) -> Any:
    """Use the cache with a key of one's own: `:1:post:7:words` in the server."""
    return cache.get_or_set(f"post:{post.pk}:words", lambda: len(post.text.split()), 3600)


def render(post: Post) -> HttpResponse:
    context = {"post": post, "words": words(post), "posts": Post.objects}
    return HttpResponse(page.render({**context, "rendering": next(renderings)}))


# Without max_age=0, browsers would keep a page for as long as the cache does.
@cache_control(max_age=0)
def show(request: HttpRequest, post_id: int) -> HttpResponse:
    post = get_object_or_404(Post, pk=post_id)
    if request.method == "POST":
        post.text = request.POST["text"]
        post.save()
        return redirect(request.path)
    return render(post)


def show_cached(request: HttpRequest, post_id: int) -> HttpResponse:
    """Cache a page under a prefix of its own: the URL is in the key only as a hash."""
    return cache_page(3600, key_prefix=f"post-{post_id}")(show)(request, post_id)


@cache_page(3600, key_prefix="lists")
@cache_control(max_age=0)
def list_all(request: HttpRequest) -> HttpResponse:
    texts = ", ".join(Post.objects.values_list("text", flat=True))
    return HttpResponse(f"{texts}; rendering {next(renderings)}\n", "text/plain")


tags = Client.from_url(TAGCACHE_URL)


def forget(instance: Post, **_: Any) -> None:
    """Whatever was made from this post is gone, wherever it was saved."""
    tags.invalidate_tags([f"post:{instance.pk}", "lists"])


post_save.connect(forget, Post)
post_delete.connect(forget, Post)

urlpatterns = [path("posts/", list_all), path("posts/<int:post_id>", show_cached)]


def main() -> None:
    with connection.schema_editor() as editor:
        editor.create_model(Post)
    Post.objects.create(text="Hello")
    Post.objects.create(text="Hello again")
    with make_server("127.0.0.1", int(sys.argv[1]), get_wsgi_application()) as server:
        print(f"http://127.0.0.1:{server.server_port}/posts/1", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
