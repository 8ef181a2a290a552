"""A coverage-guided fuzzer of one of the doors.

``python -m tests.soak.fuzz codec|http [libFuzzer's arguments]``. What it checks of each stream is
in ``tests.faults.streams``.
"""

from __future__ import annotations

import sys

import atheris

# Only what is looked at for coverage; Twisted and Hypothesis would drown it.
with atheris.instrument_imports(include=["tagcache"]):
    import tagcache.server.commands.admin
    import tagcache.server.commands.cache
    import tagcache.server.http.application
    import tagcache.server.http.protocol
    import tagcache.server.line.protocol
    import tagcache.wire.line  # noqa: F401

from tests.faults.streams import fuzz_codec, fuzz_http


def main() -> None:
    check = {"codec": fuzz_codec, "http": fuzz_http}[sys.argv[1]]
    atheris.Setup([sys.argv[0], *sys.argv[2:]], check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
