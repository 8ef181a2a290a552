"""Processors and memory of the machine and of this process."""

from __future__ import annotations

from typing import Any

import psutil


class HostStats:
    """Measures the use of the processors since the previous call."""

    def __init__(self) -> None:
        psutil.cpu_percent(percpu=True)

    def usage(self) -> dict[str, Any]:
        """Return processors and memory as a JSON object; percentages, MHz and bytes."""
        usage = psutil.cpu_percent(percpu=True)
        frequencies = psutil.cpu_freq(percpu=True) or []
        memory = psutil.virtual_memory()
        cores = [
            {
                "core": number,
                "frequency": int(frequencies[number].current) if number < len(frequencies) else 0,
                "name": f"cpu{number}",
                "usage": float(percent),
            }
            for number, percent in enumerate(usage)
        ]
        return {
            "core_count": len(cores),
            "cpu_cores": cores,
            "global_cpu_usage": sum(usage) / len(usage) if usage else 0.0,
            "total_memory": memory.total,
            "used_memory": memory.used,
        }


class OwnProcess:
    """Measures this process."""

    def __init__(self) -> None:
        self._process = psutil.Process()

    def usage(self) -> tuple[float, int]:
        """Return processor time since the start, in seconds, and resident memory, in bytes."""
        with self._process.oneshot():
            times = self._process.cpu_times()
            return times.user + times.system, self._process.memory_info().rss
