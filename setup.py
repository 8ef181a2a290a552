"""The native core, which is left out where it cannot be built; the rest is in pyproject.toml."""

import os

from setuptools import Extension, setup

# Set where the core must be built: a failure is an error then, as any warning is.
STRICT = os.environ.get("TAGCACHE_NATIVE") == "require"

setup(
    ext_modules=[
        Extension(
            "tagcache.native._core",
            [
                f"tagcache/native/{name}.c"
                for name in ("entries", "entry", "iteration", "links", "module")
            ],
            depends=["tagcache/native/core.h"],
            optional=not STRICT,
            extra_compile_args=["-Wall", "-Wextra", "-Werror"] if STRICT else [],
        )
    ]
)
