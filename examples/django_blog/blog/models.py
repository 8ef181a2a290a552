"""Authors and posts. Both are registered: whatever was made of them is gone when they change."""

from __future__ import annotations

from django.db import models

from tagcache.contrib.django.models import TagManager, register


@register
class Author(models.Model):
    name = models.CharField(max_length=100)

    objects = TagManager()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return str(self.name)


@register
class Post(models.Model):
    title = models.CharField(max_length=200)
    text = models.TextField()
    author = models.ForeignKey(Author, on_delete=models.CASCADE, related_name="posts")

    objects = TagManager()

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return str(self.title)
