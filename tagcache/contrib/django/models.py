"""Tags of models: changing an object invalidates the cached values made from it.

register(Post, Author)

@reads(Post, timeout=300)
def latest() -> str: ...
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db import models

from tagcache.client.collecting import cache_tag, is_collecting
from tagcache.contrib.django.reading import reads
from tagcache.contrib.django.registry import (
    invalidate_objects,
    invalidate_on_commit,
    is_registered,
    model_tag,
    note_any,
    object_tag,
    reading_one,
    register,
)

__all__ = [
    "TagManager",
    "TagQuerySet",
    "cache_tag",
    "invalidate_objects",
    "invalidate_on_commit",
    "model_tag",
    "object_tag",
    "reads",
    "register",
]


class TagQuerySet(models.QuerySet):
    """A QuerySet whose reads give tags, and whose bulk operations invalidate them.

    A value whose producer makes a query gets the tag of the model, or with ``get`` that of the
    object. Models that are only joined are not noticed. The model must be registered.
    """

    def get(self, *args: Any, **kwargs: Any) -> Any:
        # Of several objects, latest() gets the first: there the others matter.
        if self.query.is_sliced or not is_collecting():
            return super().get(*args, **kwargs)
        with reading_one(self.model):
            return super().get(*args, **kwargs)

    def _fetch_all(self) -> None:
        note_any(self.model)
        super()._fetch_all()

    def iterator(self, *args: Any, **kwargs: Any) -> Any:
        note_any(self.model)
        return super().iterator(*args, **kwargs)

    def aiterator(self, *args: Any, **kwargs: Any) -> Any:
        note_any(self.model)
        return super().aiterator(*args, **kwargs)

    def count(self) -> int:
        note_any(self.model)
        number: int = super().count()
        return number

    def exists(self) -> bool:
        note_any(self.model)
        found: bool = super().exists()
        return found

    def aggregate(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        note_any(self.model)
        found: dict[str, Any] = super().aggregate(*args, **kwargs)
        return found

    def update(self, **kwargs: Any) -> int:
        """Change all objects, and invalidate their tags; see QuerySet.

        It first looks up their primary keys. An object that another transaction adds to the query
        before the change loses the tag of the model only.
        """
        self._for_write = True
        pks = list(self.values_list("pk", flat=True)) if is_registered(self.model) else []
        rows: int = super().update(**kwargs)
        if pks:
            invalidate_objects(self.model, pks, using=self.db)
        return rows

    update.alters_data = True  # type: ignore[attr-defined]

    def bulk_create(self, objs: Iterable[Any], *args: Any, **kwargs: Any) -> Any:
        """Insert objects, and invalidate their tags; see QuerySet.

        With ``update_conflicts`` the tags of objects whose primary key the database does not
        return are not invalidated, but that of the model is.
        """
        self._for_write = True
        created = super().bulk_create(objs, *args, **kwargs)
        if created:
            pks = (each.pk for each in created if each.pk is not None)
            invalidate_objects(self.model, pks, using=self.db)
        return created

    bulk_create.alters_data = True  # type: ignore[attr-defined]


class TagManager(models.Manager.from_queryset(TagQuerySet)):  # type: ignore[misc]
    """The Manager of TagQuerySet.

    @register
    class Post(models.Model):
        objects = TagManager()
    """
