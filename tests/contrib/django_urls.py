"""Pages of the project in django_project: each counts how often it was made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.middleware.csrf import get_token
from django.template import engines
from django.template.response import SimpleTemplateResponse
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import cache_control
from django.views.decorators.vary import vary_on_headers

from tagcache.contrib.django import cache_tag
from tagcache.contrib.django.pages import cache_page
from tests.contrib.blog.models import Post

made: Counter[str] = Counter()
# What a test wants to happen while a page is made.
meanwhile: list[Callable[[], object]] = []


def made_page(name: str) -> HttpResponse:
    made[name] += 1
    for each in meanwhile:
        each()
    return HttpResponse(f"{name} {made[name]}")


@cache_page(60, tags=["page:{number}", "{request.method}"])
def numbered(request: HttpRequest, number: int) -> HttpResponse:
    return made_page(f"numbered {number}")


@cache_page(60, tags=lambda request, name: [f"name:{name}", request.headers["X-Language"]])
@vary_on_headers("X-Language")
def named(request: HttpRequest, name: str) -> HttpResponse:
    cache_tag("named")
    return made_page(request.headers["X-Language"])


@cache_page(60)
def post(request: HttpRequest, pk: int) -> HttpResponse:
    made["post"] += 1
    return HttpResponse(f"{Post.objects.get(pk=pk).title} {made['post']}")


@cache_page(60)
def form(request: HttpRequest) -> HttpResponse:
    get_token(request)
    return made_page("form")


@cache_page(60, tags=["async"])
async def asynchronous(request: HttpRequest) -> HttpResponse:
    return made_page("asynchronous")


@cache_page(60, tags=["async"])
async def asynchronous_template(request: HttpRequest) -> SimpleTemplateResponse:
    return posts()


@cache_page(60)
def template(request: HttpRequest) -> SimpleTemplateResponse:
    return posts()


def posts() -> SimpleTemplateResponse:
    found = engines["django"].from_string("{{ posts|length }} posts, {{ made }}")
    made["template"] += 1
    context = {"posts": Post.objects.all(), "made": made["template"]}
    return SimpleTemplateResponse(found, context)


@cache_page(60, tags=["graceful"], grace=600)
def graceful(request: HttpRequest) -> HttpResponse:
    return made_page("graceful")


@cache_page(60, wait=600)
@cache_control(private=True)
def private(request: HttpRequest) -> HttpResponse:
    return made_page("private")


@cache_page(60)
def cookie(request: HttpRequest) -> HttpResponse:
    response = made_page("cookie")
    response.set_cookie("visitor", "7")
    response.headers["Vary"] = "Cookie"
    return response


@cache_page(60, wait=600)
def missing(request: HttpRequest) -> HttpResponse:
    made_page("missing")
    raise Http404


@cache_page(None, tags=["aged"])
@cache_control(max_age=30)
def aged(request: HttpRequest) -> HttpResponse:
    return made_page("aged")


@cache_page(60, cache="dummy")
def not_kept(request: HttpRequest) -> HttpResponse:
    return made_page("not kept")


@cache_page(60, cache="local")
def untagged(request: HttpRequest) -> HttpResponse:
    return made_page("untagged")


@cache_page(60, tags=["{nope}"])
def mistaken(request: HttpRequest) -> HttpResponse:
    return made_page("mistaken")


@cache_page(60, tags=map(str, range(101)))
def many_tags(request: HttpRequest) -> HttpResponse:
    return made_page("many tags")


@method_decorator(cache_page(60, tags=["class"]), name="dispatch")
class Method(View):
    def get(self, request: HttpRequest) -> HttpResponse:
        return made_page("class")

    def post(self, request: HttpRequest) -> HttpResponse:
        return made_page("posted")


urlpatterns: list[Any] = [
    path("numbered/<int:number>", numbered),
    path("named/<name>", named),
    path("post/<int:pk>", post),
    path("asynchronous", asynchronous),
    path("asynchronous-template", asynchronous_template),
    path("template", template),
    path("graceful", graceful),
    path("private", private),
    path("cookie", cookie),
    path("form", form),
    path("missing", missing),
    path("aged", aged),
    path("not-kept", not_kept),
    path("untagged", untagged),
    path("mistaken", mistaken),
    path("many-tags", many_tags),
    path("class", Method.as_view()),
]
