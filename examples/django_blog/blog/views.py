"""The pages. None of them names a tag: they have those of what they read."""

from __future__ import annotations

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import cache_control

from examples.django_blog.blog.models import Author, Post
from tagcache.contrib.django.pages import cache_page

# Browsers would keep the page for the ten minutes, too, and not learn that it has changed.
ask_again = cache_control(no_cache=True)


class PostForm(forms.ModelForm):
    class Meta:
        model = Post
        fields = ["title", "author", "text"]


@ask_again
@cache_page(600, grace=60)
def front(request: HttpRequest) -> HttpResponse:
    """All posts. They are in the page, so it is gone when there is a new one or one changes."""
    return page(request, "front.html", posts=Post.objects.select_related("author"))


@ask_again
@cache_page(600, grace=60)
def show(request: HttpRequest, pk: int) -> HttpResponse:
    """One post. Changes of other posts do not matter."""
    return page(request, "show.html", post=get_object_or_404(Post, pk=pk))


def edit(request: HttpRequest, pk: int) -> HttpResponse:
    """A form, which is not cached. Saving it invalidates what shows the post, on commit."""
    form = PostForm(request.POST or None, instance=get_object_or_404(Post, pk=pk))
    if form.is_valid():
        form.save()
        return redirect("show", pk=pk)
    return page(request, "edit.html", form=form)


def page(request: HttpRequest, template: str, **context: object) -> HttpResponse:
    """Return a page, with the authors for the sidebar, which is a fragment of its own."""
    return render(
        request,
        f"blog/{template}",
        {"authors": Author.objects.all(), "made": timezone.localtime(), **context},
    )
