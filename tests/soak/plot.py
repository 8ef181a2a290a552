"""The plot of the measurements over time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.plots import STYLES


def over_time(
    path: Path, seconds: Sequence[float], lines: Sequence[tuple[str, Sequence[float], bool]]
) -> None:
    """Draw lines below each other. Each has a name, its values, and whether to use a log scale."""
    figure = Figure(figsize=(9, 6), layout="constrained")
    minutes = [at / 60 for at in seconds]
    axes = figure.subplots(len(lines), 1, sharex=True)
    for each, style, (name, values, widely) in zip(axes, STYLES, lines, strict=False):
        each.plot(minutes, values, color=style["color"], linewidth=0.8)
        each.set_title(name, loc="left")
        if widely:
            each.set_yscale("log")
            each.yaxis.set_major_formatter("{x:g}")
        else:
            each.set_ylim(bottom=0)
    axes[-1].set_xlabel("minutes")
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
