"""The value types of configspec.ini that configobj itself does not have."""

from __future__ import annotations

import math
import re
from ipaddress import ip_network

from configobj.validate import Validator, VdtTypeError, VdtValueError, is_float

from tagcache.config.settings import Network

_SIZE = re.compile(r"([0-9]{1,15})\s*(b|kb|mb|gb|)", re.IGNORECASE)
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?"
_HOST = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*\.?", re.IGNORECASE | re.ASCII)
_UNITS = {"": 1, "b": 1, "kb": 2**10, "mb": 2**20, "gb": 2**30}


class _NotAPort(VdtValueError):  # type: ignore[misc]
    def __init__(self, value: object) -> None:
        Exception.__init__(
            self,
            f'the value "{value}" is neither a port number (0 to 65535) nor an endpoint string '
            "such as tcp:1984:interface=127.0.0.1",
        )


class _NotASize(VdtValueError):  # type: ignore[misc]
    def __init__(self, value: object) -> None:
        Exception.__init__(
            self, f'the value "{value}" is not a number of bytes such as 1048576, 512mb or 2gb'
        )


class _NotANetwork(VdtValueError):  # type: ignore[misc]
    def __init__(self, value: object) -> None:
        Exception.__init__(
            self, f'"{value}" is neither an address nor a network such as 10.0.0.0/8 or fd00::/8'
        )


class _NotAHost(VdtValueError):  # type: ignore[misc]
    def __init__(self, value: object) -> None:
        Exception.__init__(
            self, f'"{value}" is neither a host name nor a pattern such as *.example.com'
        )


def port_or_endpoint(value: object) -> str:
    """Accept a port number, or a text that looks like a Twisted endpoint string."""
    if not isinstance(value, str):
        raise VdtTypeError(value)
    if value.isascii() and value.isdigit() and int(value) <= 65535:
        return str(int(value))
    kind, colon, _ = value.partition(":")
    if colon and kind.isidentifier():
        return value
    raise _NotAPort(value)


def size(value: object) -> int:
    """Accept a number of bytes, with or without a unit: 512mb, 2GB, 1048576."""
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise _NotASize(value)
    return int(match[1]) * _UNITS[match[2].lower()]


def networks(value: object) -> tuple[Network, ...]:
    """Accept a list of addresses and networks. The host bits of a network may be set."""
    items: list[str] = value if isinstance(value, list) else [str(value)]
    found = []
    for item in items:
        if item == "":
            continue
        try:
            found.append(ip_network(item, strict=False))
        except ValueError:
            raise _NotANetwork(item) from None
    return tuple(found)


def hosts(value: object) -> tuple[str, ...]:
    """Accept a list of host names without ports, and of patterns such as *.example.com."""
    items: list[str] = value if isinstance(value, list) else [str(value)]
    found = []
    for item in items:
        if item == "":
            continue
        if _HOST.fullmatch(item) is None:
            raise _NotAHost(item)
        found.append(item.lower().removesuffix("."))
    return tuple(found)


def seconds(value: object, min: str, max: str) -> float:
    """Accept a finite number of seconds within the bounds."""
    number: float = is_float(value, min, max)
    if not math.isfinite(number):
        raise VdtTypeError(value)
    return number


def validator() -> Validator:
    """Return a validator for all types of configspec.ini."""
    return Validator(
        {
            "port_or_endpoint": port_or_endpoint,
            "hosts": hosts,
            "networks": networks,
            "seconds": seconds,
            "size": size,
        }
    )
