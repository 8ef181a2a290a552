"""Fragments of templates that are cached until the objects in them change.

{% load tagcache %}
{% cache 300 "sidebar" user.pk tags="shop.product:{product.pk} prices" %}...{% endcache %}
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from django.core.cache import caches
from django.core.cache.utils import make_template_fragment_key
from django.db.models import Model
from django.template import Library, Node, TemplateSyntaxError

from tagcache.contrib.django.caches import tagged_cache
from tagcache.contrib.django.registry import is_uncommitted, object_tag

register = Library()

_OPTIONS = ("using", "tags", "grace", "wait")
_OPTION = re.compile(rf"({'|'.join(_OPTIONS)})=(.*)", re.DOTALL)
_PLACE = re.compile(r"\{([^{}]*)\}")


class FragmentNode(Node):
    """A cached fragment."""

    def __init__(
        self,
        nodelist: Any,
        timeout: Callable[[Any], Any],
        name: str,
        vary_on: list[Any],
        options: dict[str, Callable[[Any], Any]],
    ) -> None:
        self.nodelist = nodelist
        self.timeout = timeout
        self.name = name
        self.vary_on = vary_on
        self.options = options

    def render(self, context: Any) -> Any:
        given = {name: resolve(context) for name, resolve in self.options.items()}
        timeout = self.timeout(context)
        if timeout is not None and not isinstance(timeout, (int, float)):
            try:
                timeout = float(timeout)
            except (TypeError, ValueError):
                raise TemplateSyntaxError(
                    f'"cache" tag got a timeout that is not a number: {timeout!r}'
                ) from None
        alias = given.pop("using", None)
        if alias is None:
            alias = "template_fragments" if "template_fragments" in caches.settings else "default"
        elif alias not in caches.settings:
            raise TemplateSyntaxError(f'"cache" tag: CACHES has no {alias!r}')
        cache = tagged_cache(alias)
        if cache is None or is_uncommitted():
            return self.nodelist.render(context)
        key = make_template_fragment_key(
            self.name, [each.resolve(context) for each in self.vary_on]
        )
        return cache.get_or_set(key, lambda: self.nodelist.render(context), timeout, **given)


def do_cache(parser: Any, token: Any) -> FragmentNode:
    """Cache a fragment: Django's template tag, with cache tags.

    ``{% cache timeout name [variables] [using=] [tags=] [grace=] [wait=] %} ... {% endcache %}``:
    ``timeout``, ``grace`` and ``wait`` are in seconds, ``using`` is an alias in CACHES. ``tags`` is
    a text of tags between blanks, in which ``{post.pk}`` is a variable; or a variable that is a
    tag, an object of a model, or a list of these. What is read while the fragment is rendered adds
    tags. Raises TemplateSyntaxError.
    """
    nodelist = parser.parse(("endcache",))
    parser.delete_first_token()
    _, *words = token.split_contents()
    options, plain = {}, []
    for word in words:
        option = _OPTION.fullmatch(word)
        if option is None:
            plain.append(word)
        elif option[1] == "tags":
            options["tags"] = _tags(parser, option[2])
        else:
            options[option[1]] = _variable(parser, option[2])
    if len(plain) < 2:
        raise TemplateSyntaxError('"cache" tag needs a timeout and a name')
    timeout, name, *vary_on = plain
    return FragmentNode(
        nodelist,
        _variable(parser, timeout),
        _unquoted(name) or name,
        [parser.compile_filter(each) for each in vary_on],
        options,
    )


register.tag("cache", do_cache)


def _variable(parser: Any, text: str) -> Callable[[Any], Any]:
    """Return a function that finds the value of an expression in a context."""
    compiled = parser.compile_filter(text)
    if text == "None":
        return lambda context: None

    def resolve(context: Any) -> Any:
        value = compiled.resolve(context, ignore_failures=True)
        if value is None:
            raise TemplateSyntaxError(f'"cache" tag got an unknown variable: {text}')
        return value

    return resolve


def _tags(parser: Any, text: str) -> Callable[[Any], list[str]]:
    literal = _unquoted(text)
    if literal is None:
        variable = _variable(parser, text)
        return lambda context: list(_each_tag(variable(context)))
    # Every other part is a variable.
    parts = [_PLACE.split(tag) for tag in literal.split()]
    made = [
        [_variable(parser, text) if place % 2 else text for place, text in enumerate(each)]
        for each in parts
    ]

    def resolve(context: Any) -> list[str]:
        return [
            "".join(str(part(context)) if callable(part) else part for part in each)
            for each in made
        ]

    return resolve


def _each_tag(value: Any) -> Iterable[str]:
    """Yield the tags that a variable means. Raises TemplateSyntaxError."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Model):
        yield object_tag(value)
    elif isinstance(value, Iterable):
        for each in value:
            yield from _each_tag(each)
    else:
        raise TemplateSyntaxError(f'"cache" tag cannot make tags of {value!r}')


def _unquoted(text: str) -> str | None:
    """Return the text between quotes; None if there are no quotes."""
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"
    return text[1:-1] if quoted else None
