"""The native core, which is left out where it cannot be built; the rest is in pyproject.toml."""

import os
from pathlib import Path

from setuptools import Extension, setup

# Set where the core must be built: a failure is an error then, as any warning is.
STRICT = os.environ.get("TAGCACHE_NATIVE") == "require"

setup(
    ext_modules=[
        Extension(
            "tagcache.native._core",
            sorted(map(str, Path("tagcache/native").glob("*.c"))),
            depends=sorted(map(str, Path("tagcache/native").glob("*.h"))),
            optional=not STRICT,
            extra_compile_args=["-Wall", "-Wextra", "-Werror"] if STRICT else [],
        )
    ]
)
