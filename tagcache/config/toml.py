"""The TOML configuration of the reference implementation, and what becomes of it here."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from configobj import ConfigObj

# Levels of the reference that there are not here, and what they become.
_LEVELS = {"trace": "debug"}


def is_toml(path: Path, text: str) -> bool:
    """Say whether a file, which is not one of ours, is TOML.

    Much of TOML can be read as our format too. What tells them apart are the file's name, lists in
    brackets, tables in tables, and the level of logging that only the reference has.
    """
    try:
        given = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False
    return path.suffix == ".toml" or any(
        isinstance(value, list | dict) or value in _LEVELS
        for knobs in given.values()
        if isinstance(knobs, dict)
        for value in knobs.values()
    )


def from_toml(text: str, spec: ConfigObj) -> tuple[ConfigObj, list[str]]:
    """Return a configuration of ours, and a notice for each value that is not taken as it is.

    Raises tomllib.TOMLDecodeError.
    """
    ours = ConfigObj(interpolation=False)
    notices = []
    for section, knobs in tomllib.loads(text).items():
        if not isinstance(knobs, dict):
            notices.append(f"left out, because it is not known here: {section}")
            continue
        for key, value in knobs.items():
            if section not in spec or key not in spec[section] or isinstance(value, dict):
                notices.append(f"left out, because it is not known here: {section}.{key}")
                continue
            taken = _taken(section, key, value)
            if taken != value:
                notices.append(f"{section}.{key} = {value} is taken as {taken}")
            ours.setdefault(section, {})[key] = taken
    return ours, notices


def _taken(section: str, key: str, value: Any) -> Any:
    if (section, key) == ("logging", "level") and isinstance(value, str):
        return _LEVELS.get(value.lower(), value)
    return value
