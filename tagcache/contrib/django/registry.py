"""The models whose objects have tags: changes invalidate the tags, and reads collect them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar, overload

from django.core.exceptions import ImproperlyConfigured
from django.db import connections, models, transaction
from django.db.models.signals import class_prepared, m2m_changed, post_delete, post_init, post_save

from tagcache.client.collecting import _collected, cache_tag, collecting, is_collecting, note
from tagcache.contrib.django.caches import tagged_cache

# A value made from more objects gets the tag of their model, because an entry has at most 100 tags.
_MOST_OBJECTS = 50
# How many tags are invalidated by one request: the server takes 131,072 arguments.
_TAGS_AT_ONCE = 50_000

M = TypeVar("M", bound="type[Any]")

# The alias of the cache of each model.
_registered: dict[type[models.Model], str] = {}


def model_tag(model: type[models.Model]) -> str:
    """Return the tag of values made from any objects of a model: ``"blog.post"``.

    A proxy has the tag of its model.
    """
    label: str = model._meta.concrete_model._meta.label_lower
    return label


def object_tag(of: Any, pk: object = None) -> str:
    """Return the tag of values made from one object: ``"blog.post:7"``.

    ``of`` is the object, or its model, with its primary key.

    >>> object_tag(Post, 7)
    'blog.post:7'
    """
    model, pk = (of, pk) if isinstance(of, type) else (type(of), of.pk)
    return f"{model_tag(model)}:{pk}"


def is_registered(model: type[models.Model]) -> bool:
    """Return whether the objects of a model, or of its parents or children, have tags."""
    return next(_tags_of(model, ()), None) is not None


def tag_of_reads(model: type[models.Model]) -> str | None:
    """Return the tag of values made from any objects of a model; None: it is not registered.

    If only a parent is registered, this is the tag of the parent.
    """
    concrete = model._meta.concrete_model
    for each in (concrete, *concrete._meta.get_parent_list()):
        if each in _registered:
            return model_tag(each)
    return None


@overload
def register(*, cache: str = "default") -> Callable[[M], M]: ...


@overload
def register(first: M, /, *others: type[Any], cache: str = "default") -> M: ...


def register(*registering: Any, cache: str = "default") -> Any:
    """Let changes of a model's objects invalidate their tags, when the transaction is committed.

    Returns the first model, so it may decorate one. ``cache`` is an alias in CACHES. The tags are
    those of ``model_tag`` and ``object_tag``. Raises ImproperlyConfigured for an abstract model.

        @register
        class Post(models.Model): ...

        @register(cache="pages")
        class Author(models.Model): ...
    """
    if not registering:
        return partial(register, cache=cache)
    for each in registering:
        if each._meta.abstract:
            raise ImproperlyConfigured(
                f"{each.__name__} is abstract: register the models that inherit from it"
            )
        model = each._meta.concrete_model
        _registered[model] = cache
        for relative in (model, *model._meta.get_parent_list(), *_descendants(model)):
            _watch(relative)
    class_prepared.connect(_prepared, dispatch_uid="tagcache")
    m2m_changed.connect(_relation_changed, dispatch_uid="tagcache")
    return registering[0]


def _descendants(model: type[models.Model]) -> Iterator[type[models.Model]]:
    for child in model.__subclasses__():
        yield child
        yield from _descendants(child)


def _watch(model: type[models.Model]) -> None:
    """Receive the signals of one class: Django sends those of a proxy or a child separately."""
    if not model._meta.abstract:
        post_init.connect(_loaded, sender=model, dispatch_uid="tagcache")
        post_save.connect(_changed, sender=model, dispatch_uid="tagcache")
        post_delete.connect(_changed, sender=model, dispatch_uid="tagcache")


def _prepared(sender: type[models.Model], **_: Any) -> None:
    # A proxy or a child of a registered model.
    if issubclass(sender, tuple(_registered)):
        _watch(sender)


def _loaded(instance: models.Model, **_: Any) -> None:
    """Add the tag of an object to the value whose producer loads it."""
    collected = _collected.get()
    if collected is None or instance.pk is None:
        return
    for model, tags in _tags_of(type(instance), (), instance):
        # Loading an object of a child does not load that of its parent.
        if isinstance(instance, model):
            cache_tag(tags[0] if len(collected) >= _MOST_OBJECTS else tags[-1])


def note_any(model: type[models.Model]) -> None:
    """Add the tag of a model, if it is registered, to the value whose producer makes this call."""
    if is_collecting() and (tag := tag_of_reads(model)) is not None:
        cache_tag(tag)


@contextmanager
def reading_one(model: type[models.Model]) -> Iterator[None]:
    """Keep the tag of a model from what is being computed: only one object is read, if it is there.

    The object itself gives its tag, or that of the model if there are many objects already.
    """
    outer = _collected.get()
    try:
        with collecting() as collected:
            collected.update(outer or {})
            yield
        if len(collected) < _MOST_OBJECTS:
            collected.pop((tag_of_reads(model) or "").encode(), None)
    finally:
        note(collected)


def invalidate_objects(
    model: type[models.Model], pks: Iterable[Any], *, using: str | None = None
) -> None:
    """Invalidate the tags of objects on commit, for changes that Django does not signal.

    ``pks`` are their primary keys; if there is none, only the tag of the model is invalidated. See
    ``invalidate_on_commit``.

        with connection.cursor() as cursor:
            cursor.execute("UPDATE blog_post SET title = upper(title) WHERE id = 7")
        invalidate_objects(Post, [7])
    """
    known = list(pks)
    for each, tags in _tags_of(model, known):
        invalidate_on_commit(tags, cache=_registered[each], using=using)


def _changed(instance: models.Model, using: str, **_: Any) -> None:
    for model, tags in _tags_of(type(instance), [instance.pk], instance):
        invalidate_on_commit(tags, cache=_registered[model], using=using)


def _tags_of(
    model: type[models.Model], pks: Iterable[Any], instance: models.Model | None = None
) -> Iterator[tuple[type[models.Model], list[str]]]:
    """Yield each registered model to which objects of ``model`` also belong, and their tags.

    These include its children and parents: an object of a child is also one of its parent.
    """
    concrete = model._meta.concrete_model
    for each in _registered:
        if issubclass(concrete, each) and instance is not None:
            own = [getattr(instance, each._meta.pk.attname)]
        elif issubclass(concrete, each) or issubclass(each, concrete):
            own = list(pks)
        else:
            continue
        yield each, [model_tag(each), *(object_tag(each, pk) for pk in own)]


def _relation_changed(
    sender: Any,
    instance: models.Model,
    action: str,
    reverse: bool,
    model: type[models.Model],
    pk_set: set[Any] | None,
    using: str,
    **_: Any,
) -> None:
    """A many-to-many relation changes the objects at both ends."""
    if action == "pre_clear":
        pk_set = _related(sender, instance, reverse, model, using)
    elif action not in ("post_add", "post_remove"):
        return
    _changed(instance, using)
    invalidate_objects(model, pk_set or (), using=using)


def _related(
    through: Any, instance: models.Model, reverse: bool, model: type[models.Model], using: str
) -> set[Any]:
    """Return the primary keys of the objects that will be removed from a relation."""
    if not any(True for _ in _tags_of(model, ())):
        return set()
    owner = model if reverse else type(instance)
    field = next(
        field for field in owner._meta.many_to_many if field.remote_field.through is through
    )
    here, there = field.m2m_field_name(), field.m2m_reverse_field_name()
    if reverse:
        here, there = there, here
    rows = through._base_manager.using(using).filter(**{here: instance})
    return set(rows.values_list(f"{there}__pk", flat=True))


class _Invalidation:
    """Invalidates tags when a transaction is committed."""

    def __init__(self, cache: str, savepoints: tuple[Any, ...], tags: dict[str, None]) -> None:
        self.cache = cache
        self.savepoints = savepoints
        # The values of the dictionary mean nothing.
        self.tags = tags

    def __call__(self) -> None:
        cache, tags = tagged_cache(self.cache), list(self.tags)
        if cache is not None:
            for start in range(0, len(tags), _TAGS_AT_ONCE):
                cache.invalidate_tags(tags[start : start + _TAGS_AT_ONCE])


def invalidate_on_commit(
    tags: Iterable[str], *, cache: str = "default", using: str | None = None
) -> None:
    """Invalidate tags when the transaction is committed, or now if there is none.

    Nothing is invalidated if it is rolled back. ``cache`` is an alias in CACHES, ``using`` one in
    DATABASES. Raises TransactionManagementError without autocommit outside of a transaction. After
    the commit, raises Unavailable if the cache is away and its errors are not ignored.

        with transaction.atomic():
            cursor.execute("UPDATE blog_post SET ...")
            invalidate_on_commit([model_tag(Post)])
    """
    connection = transaction.get_connection(using)
    # Those of a savepoint are dropped when it is rolled back.
    savepoints = tuple(connection.savepoint_ids)
    last = connection.run_on_commit[-1][1] if connection.run_on_commit else None
    if isinstance(last, _Invalidation) and (last.cache, last.savepoints) == (cache, savepoints):
        last.tags.update(dict.fromkeys(tags))
    elif found := dict.fromkeys(tags):
        transaction.on_commit(_Invalidation(cache, savepoints, found), using=using)


def is_uncommitted() -> bool:
    """Return whether a transaction of this thread has changes that nobody else should see yet."""
    return any(
        isinstance(hook[1], _Invalidation)
        for connection in connections.all(initialized_only=True)
        for hook in connection.run_on_commit
    )
