"""The ``twistd tagcache`` command: its options, and its makeService."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.logger import Logger
from twisted.python import usage

import tagcache
from tagcache import native
from tagcache.config.loading import Configuration, find, load
from tagcache.config.settings import Settings
from tagcache.errors import ConfigurationError, TagCacheError
from tagcache.server.app import build_service
from tagcache.server.observe.logs import LogWriter
from tagcache.server.preflight import Preflight
from tagcache.server.service import TagCacheService

log = Logger(namespace="tagcache.start")


class Options(usage.Options):
    """Command-line options of ``twistd tagcache``."""

    longdesc = (
        "A tag-aware cache server. Without --config it reads ./tagcache.conf, or else the one in "
        "the user's configuration directory, or else uses built-in defaults."
    )
    optParameters = [["config", "c", None, "The configuration file."]]

    def opt_version(self) -> None:
        """Print the version and exit."""
        print(f"tagcache {tagcache.__version__}")
        raise SystemExit(0)


def makeService(options: Options) -> TagCacheService:
    """Read the configuration and assemble the server.

    Raises SystemExit, with one message that lists every fault, if the configuration is unusable.
    """
    from twisted.internet import reactor

    path = Path(options["config"]) if options["config"] is not None else find(os.environ)
    # twistd may change the working directory before the file is read again.
    path = path.absolute() if path is not None else None

    def read() -> Configuration:
        return load(path, os.environ)

    try:
        native.check_wanted(os.environ.get(native.VARIABLE, ""))
        configuration = read()
        check = Preflight()
        notices = check.check(configuration)
        _check_reactor(configuration, reactor)
        log_path, no_log = _log_destination(options.parent or {}, configuration.settings)
        writer = None if no_log else LogWriter(configuration.settings, log_path)
        service = build_service(configuration, check, read, writer, os.environ, reactor)
    except TagCacheError as error:
        raise SystemExit(str(error)) from None
    for notice in [*notices, no_log] if no_log else notices:
        log.warn("{notice}", notice=notice)
    return service


def _check_reactor(configuration: Configuration, reactor: Any) -> None:
    """Raise ConfigurationError if the engine needs another reactor."""
    if configuration.settings.engine.backend == "redis" and not hasattr(
        reactor, "_asyncioEventloop"
    ):
        fault = (
            "engine.backend = redis needs twistd --reactor=asyncio, or --reactor=uvloop; "
            "`tagcache server` does that itself"
        )
        source = configuration.path or "built-in defaults and environment"
        raise ConfigurationError(str(source), [fault])


def _log_destination(twistd: Mapping[str, Any], settings: Settings) -> tuple[Path | None, str]:
    """Return the log file (None: standard output), and why ``[logging]`` has no effect, if so.

    ``twistd`` are twistd's own options.
    """
    if twistd.get("syslog") or twistd.get("logger"):
        return None, (
            "[logging] has no effect: twistd was told where and how to log (--syslog, --logger)"
        )
    told = twistd.get("logfile")
    if settings.logging.file:
        return Path(settings.logging.file).absolute(), ""
    if told and told != "-":
        return Path(told).absolute(), ""
    if told == "-" or twistd.get("nodaemon", True):
        return None, ""
    return Path("twistd.log").absolute(), ""
