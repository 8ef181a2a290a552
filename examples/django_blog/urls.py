"""The URLs of the blog."""

from __future__ import annotations

from django.urls import path

from examples.django_blog.blog import views

urlpatterns = [
    path("", views.front, name="front"),
    path("posts/<int:pk>", views.show, name="show"),
    path("posts/<int:pk>/edit", views.edit, name="edit"),
]
