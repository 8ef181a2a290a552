"""A blog, whose models have tags."""

from __future__ import annotations

from django.db import models

from tagcache.contrib.django.models import TagManager, register


class Author(models.Model):
    name = models.TextField()


class Topic(models.Model):
    name = models.TextField(unique=True)
    objects = TagManager()


@register
class Post(models.Model):
    title = models.TextField()
    author = models.ForeignKey(Author, models.CASCADE, null=True)
    topics = models.ManyToManyField(Topic, related_name="posts")
    likes = models.ManyToManyField(Author, related_name="liked")
    objects = TagManager()


class Draft(Post):
    """A proxy."""

    class Meta:
        proxy = True


class Review(Post):
    """A child with a table of its own."""

    stars = models.IntegerField()


class Essay(Post):
    """A child that is not registered."""

    words = models.IntegerField()
    objects = TagManager()


class Unregistered(models.Model):
    name = models.TextField()
    objects = TagManager()


register(Author, Topic, Review)
