"""A Django site in one file: its pages stay in the cache until what they are made of is saved.

    pip install '.[django]'    # in a clone of TagCache
    tagcache server &
    python docs/examples/django_page.py 8000

    curl http://127.0.0.1:8000/posts/1
    curl -d text='Good morning' http://127.0.0.1:8000/posts/1

TAGCACHE_URL names another server than tagcache://127.0.0.1:1984.
"""

from __future__ import annotations

import os
import sys
import tempfile
from itertools import count
from pathlib import Path
from wsgiref.simple_server import make_server

import django
from django.conf import settings

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
            "BACKEND": "tagcache.contrib.django.TagCache",
            "LOCATION": os.environ.get("TAGCACHE_URL", "tagcache://127.0.0.1:1984"),
            "KEY_PREFIX": "page",
            "OPTIONS": {"ignore_exc": True},
        }
    },
)
django.setup()

from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db import connection, models  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.shortcuts import get_object_or_404, redirect  # noqa: E402
from django.urls import path  # noqa: E402
from django.utils.html import format_html  # noqa: E402

from tagcache.contrib.django.models import TagManager, register  # noqa: E402
from tagcache.contrib.django.pages import cache_page  # noqa: E402

renderings = count(1)


@register
class Post(models.Model):
    text = models.TextField()
    objects = TagManager()

    class Meta:
        app_label = "posts"


# The page has the tag posts.post:1 of the post that is read, too: a save invalidates it, wherever
# it happens, when it is committed.
@cache_page(3600, tags=["post:{post_id}", "posts"])
def show(request: HttpRequest, post_id: int) -> HttpResponse:
    post = get_object_or_404(Post, pk=post_id)
    if request.method == "POST":
        post.text = request.POST["text"]
        post.save()
        return redirect(request.path)
    return HttpResponse(
        format_html("<p>{}</p><small>rendering {}</small>\n", post.text, next(renderings))
    )


urlpatterns = [path("posts/<int:post_id>", show)]


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
