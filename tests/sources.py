"""The sources of installed packages, whose own tests are not part of the package."""

from __future__ import annotations

import contextlib
import importlib.metadata
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.left_out import skip


@pytest.fixture(scope="session")
def sources(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Return the folder with the source of an installed distribution, which is downloaded once."""
    # There is none with ``-p no:cacheprovider``.
    cache = getattr(request.config, "cache", None)
    folder = cache.mkdir("sources") if cache else tmp_path_factory.mktemp("sources")

    def source(distribution: str) -> Path:
        release = f"{distribution}-{importlib.metadata.version(distribution)}"
        found = folder / release
        if not found.is_dir():
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                unpacked = _downloaded(release, Path(scratch))
                # Another process may have been faster.
                with contextlib.suppress(OSError):
                    unpacked.rename(found)
        return found

    return source


def _downloaded(release: str, folder: Path) -> Path:
    """Download and unpack a release; return its folder. Skip the test if it is not available."""
    distribution, _, version = release.rpartition("-")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--disable-pip-version-check", "--no-binary", ":all:", f"{distribution}=={version}"]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=240, check=False
        )
        why = done.stderr[-2000:]
    except subprocess.TimeoutExpired:
        why = "pip download took more than 240 s"
    archives = list(folder.glob("*.tar.gz"))
    if not archives:
        skip(f"the source of {release} is not available: {why}")
    with tarfile.open(archives[0]) as archive:
        top = archive.getnames()[0].partition("/")[0]
        archive.extractall(folder / "new", filter="data")
    return folder / "new" / top
