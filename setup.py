"""Packaging; tool settings live in pyproject.toml."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent


def version() -> str:
    """The one place that names the version is ``tagcache/__init__.py``."""
    text = (HERE / "tagcache" / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if match is None:
        raise RuntimeError("tagcache/__init__.py does not name __version__")
    return match[1]


EXTRAS = {
    # The manhole: SSH, and so cryptography and bcrypt.
    "conch": ["twisted[conch]>=24.7"],
    # ssl: endpoint strings. Older releases of pyOpenSSL do not take keys of cryptography's.
    "tls": ["twisted[tls]>=24.7", "pyopenssl>=24.3"],
    # The asyncio reactor on uvloop's event loop: twistd --reactor=uvloop.
    "uvloop": ["uvloop>=0.21"],
    # engine.backend = redis, on the asyncio reactor.
    "redis": ["redis[hiredis]>=8"],
    # serde=msgpack of the clients.
    "msgpack": ["msgpack>=1"],
    # Frameworks whose caches it can be: tagcache.contrib.
    "django": ["django>=4.2"],
    "flask": ["flask>=3", "flask-caching>=2.5", "cachelib>=0.17"],
    "cachelib": ["cachelib>=0.17"],
    "dogpile": ["dogpile.cache>=1.3"],
}
FRAMEWORKS = ("django", "flask", "cachelib", "dogpile")
DEV = [
    *sorted({requirement for extra in FRAMEWORKS for requirement in EXTRAS[extra]}),
    "build>=1.2",
    # Programs of others that the tests run against the server: tests/outside.
    "fastapi>=0.115",
    "httpx[http2]>=0.28",
    "hypothesis>=6.100",
    "import-linter>=2",
    "mypy>=1.15",
    "mypy-zope>=1.0.11",
    "playwright>=1.49",
    "pytest>=8",
    "pytest-timeout>=2.3",
    "pytest-twisted>=1.14",
    "pytest-xdist>=3.6",
    "pyyaml>=6",
    "ruff>=0.9",
    "schemathesis>=4",
    "towncrier>=24.8",
    "trustme>=1.2",
    "types-psutil",
    "types-pyOpenSSL",
    "uvicorn[standard]>=0.34",
]
# The plots of `make bench`, and the clients that it compares with.
BENCH = ["matplotlib>=3.8", "pymemcache>=4", "redis[hiredis]>=5"]
# The fuzzer and the plot of `make soak`.
SOAK = ["atheris>=3.0", *BENCH]

setup(
    # Not the import name: `tagcache` on PyPI is somebody else's package.
    name="tagcache-server",
    version=version(),
    description="A tag-aware cache server on Twisted",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=[
        *find_packages(include=["tagcache", "tagcache.*"]),
        "twisted.plugins",
    ],
    # An editable install must put this folder itself on sys.path: twistd finds plugins by
    # walking directories, which an import finder does not give it.
    package_dir={"": "."},
    package_data={
        "tagcache": ["py.typed"],
        "tagcache.config": ["configspec.ini", "tagcache.conf"],
        "tagcache.dashboard": ["*.html", "*.css", "*.js", "*.svg"],
        "tagcache.redis.scripts": ["*.lua"],
    },
    zip_safe=False,
    install_requires=[
        "twisted>=24.7",
        "zope.interface>=6",
        "configobj>=5.0.9",
        "click>=8.1",
        "httptools>=0.6.1",
        "orjson>=3.10",
        "prometheus-client>=0.21",
        "psutil>=5.9",
    ],
    extras_require={
        **EXTRAS,
        # All that the server and the clients can use; a framework is there already, or is not.
        "all": sorted(
            {
                requirement
                for name, extra in EXTRAS.items()
                if name not in FRAMEWORKS
                for requirement in extra
            }
        ),
        "dev": DEV,
        "bench": BENCH,
        "soak": SOAK,
    },
    entry_points={
        "console_scripts": ["tagcache = tagcache.cli.main:main"],
        "dogpile.cache": ["tagcache = tagcache.contrib.dogpile:TagCacheBackend"],
        "pytest11": ["tagcache = tagcache.contrib.pytest_plugin"],
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Framework :: Twisted",
        "Intended Audience :: Developers",
        "Intended Audience :: System Administrators",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Database",
        "Typing :: Typed",
    ],
)
