"""What the system knows about a process."""

from __future__ import annotations

from pathlib import Path


def descriptors(pid: int) -> int:
    """Return the number of its open descriptors."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def resident_mb(pid: int, peak: bool = False) -> float:
    """Return its resident memory in MB: the current size or the maximum so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:" if peak else "VmRSS:")[1].split()[0]) / 1024


def address_space(pid: int) -> int:
    """Return the size of its address space in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmSize:")[1].split()[0]) * 1024
