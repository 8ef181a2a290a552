"""The native core, which is left out where it cannot be built, and reproducible source archives.

The rest is in pyproject.toml.
"""

import gzip
import os
import tarfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.sdist import sdist

# Set where the core must be built: a failure is an error then, as any warning is.
STRICT = os.environ.get("TAGCACHE_NATIVE") == "require"
EPOCH = os.environ.get("SOURCE_DATE_EPOCH")


class SourceArchive(sdist):
    """With SOURCE_DATE_EPOCH, the same files give the same bytes."""

    def make_archive(self, *args, **kwargs):
        path = super().make_archive(*args, **kwargs)
        if EPOCH and path.endswith(".tar.gz"):
            repack(Path(path), int(EPOCH))
        return path


def repack(path: Path, epoch: int) -> None:
    """Replace what an archive says of the machine, the user and the time."""
    again = path.with_suffix(".again")
    with (
        tarfile.open(path) as old,
        again.open("wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=epoch) as stream,
        tarfile.open(fileobj=stream, mode="w") as new,
    ):
        for member in sorted(old.getmembers(), key=lambda each: each.name):
            member.mtime, member.uid, member.gid, member.uname, member.gname = epoch, 0, 0, "", ""
            member.mode = 0o755 if member.mode & 0o100 else 0o644
            # The times that do not fit into a header.
            member.pax_headers = {}
            new.addfile(member, old.extractfile(member) if member.isfile() else None)
    again.replace(path)


setup(
    cmdclass={"sdist": SourceArchive},
    ext_modules=[
        Extension(
            "tagcache.native._core",
            sorted(map(str, Path("tagcache/native").glob("*.c"))),
            depends=sorted(map(str, Path("tagcache/native").glob("*.h"))),
            optional=not STRICT,
            # Debugging information would name the folder of the build.
            extra_compile_args=["-g0", *(["-Wall", "-Wextra", "-Werror"] if STRICT else [])],
        )
    ],
)
