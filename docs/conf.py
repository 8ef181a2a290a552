"""The documentation site: ``make docs`` builds it in build/docs."""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

import tagcache
from tools.reference import filled

project = "TagCache"
release = tagcache.__version__
copyright = "the TagCache authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["examples", "images", "monitoring", "performance", "releases", "reliability"]

# Links to a heading of another page are checked, as those to pages and files are.
myst_heading_anchors = 4

autodoc_default_options = {"members": True, "inherited-members": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = f"TagCache {release}"
html_favicon = "../tagcache/dashboard/icon.svg"
html_theme_options = {"navigation_with_keys": True}

# `make linkcheck` needs a network. Addresses of this machine are examples.
linkcheck_ignore = [r"https?://(127\.0\.0\.1|localhost|cache)\b"]


def _fill(app: Sphinx, page: str, source: list[str]) -> None:
    source[0] = filled(source[0])


def _returns(app: Sphinx, what: str, name: str, *rest: Any) -> tuple[str | None, str | None]:
    """Return the signature of a method of a client, which is that of the request that it sends."""
    *_, arguments, returns = rest
    request = re.fullmatch(r"(?:Request|Batch)(\[.*\])", returns or "")
    if request is None:
        return arguments, returns
    result = request[1][1:-1]
    return arguments, f"Deferred[{result}]" if "DeferredClient" in name else result


def setup(app: Sphinx) -> None:
    """Insert the generated parts of the pages."""
    app.connect("source-read", _fill)
    app.connect("autodoc-process-signature", _returns)
