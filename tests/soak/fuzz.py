"""A coverage-guided fuzzer of one of the protocols.

``python -m tests.soak.fuzz codec|http [libFuzzer's arguments]``. ``tests.faults.streams`` has the
checks of each stream.
"""

from __future__ import annotations

import sys

import atheris

# Coverage of our modules only. That of Twisted and Hypothesis would hide it.
with atheris.instrument_imports(include=["tagcache"]):
    import tagcache.server.cache_port.protocol
    import tagcache.server.commands.admin
    import tagcache.server.commands.cache
    import tagcache.server.http.application
    import tagcache.server.http.protocol
    import tagcache.wire.line  # noqa: F401

from tests.faults.streams import fuzz_codec, fuzz_http


def main() -> None:
    check = {"codec": fuzz_codec, "http": fuzz_http}[sys.argv[1]]
    atheris.Setup([sys.argv[0], *sys.argv[2:]], check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
