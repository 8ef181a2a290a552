"""Convert the TOML configuration of the reference implementation."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from configobj import ConfigObj

# Log levels that only the reference has, and ours for them.
_LEVELS = {"trace": "debug"}


def is_toml(path: Path, text: str) -> bool:
    """Return whether a file that is not valid in our format is TOML.

    Much TOML is valid in our format too. The file name, lists in brackets, tables in tables, and
    the log level that only the reference has tell the two apart.
    """
    try:
        given = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False
    return path.suffix == ".toml" or any(
        isinstance(value, list | dict) or value in _LEVELS
        for section, knobs in given.items()
        if isinstance(knobs, dict) and section != "tag_rules"
        for value in knobs.values()
    )


def from_toml(text: str, spec: ConfigObj) -> tuple[ConfigObj, list[str]]:
    """Return the configuration in our format, and a notice for each changed or dropped value.

    Raises tomllib.TOMLDecodeError.
    """
    ours = ConfigObj(interpolation=False)
    notices = []
    for section, knobs in tomllib.loads(text).items():
        if not isinstance(knobs, dict):
            notices.append(f"left out, because it is unknown here: {section}")
            continue
        for key, value in knobs.items():
            if section not in spec or key not in spec[section] or isinstance(value, dict):
                notices.append(f"left out, because it is unknown here: {section}.{key}")
                continue
            taken = _taken(section, key, value)
            if taken != value:
                notices.append(f"{section}.{key} = {value} is converted to {taken}")
            ours.setdefault(section, {})[key] = taken
    return ours, notices


def _taken(section: str, key: str, value: Any) -> Any:
    if (section, key) == ("logging", "level") and isinstance(value, str):
        return _LEVELS.get(value.lower(), value)
    return value
