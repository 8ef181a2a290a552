"""SVG plots. The same numbers give the same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

matplotlib.use("svg")
matplotlib.rcParams.update(
    {
        "svg.hashsalt": "tagcache",
        "font.size": 9,
        "axes.grid": True,
        "grid.color": "#dddddd",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
    }
)

# From the palette of Okabe and Ito, which works for colour-blind people.
STYLES = [
    {"color": "#0072b2", "marker": "o"},
    {"color": "#d55e00", "marker": "s"},
    {"color": "#009e73", "marker": "^"},
    {"color": "#cc79a7", "marker": "D"},
]

Panel = tuple[str, Mapping[str, Sequence[float]]]


def panels(path: Path, x_label: str, ticks: Sequence[str], content: Sequence[Panel]) -> None:
    """Draw panels side by side. Each has a name and, for each line, a value for each tick.

    A y axis is logarithmic if its values differ more than thirtyfold; otherwise it begins at 0.
    """
    figure = Figure(figsize=(4.5 * len(content), 3.2), layout="constrained")
    for axes, (name, lines) in zip(_axes(figure, len(content)), content, strict=True):
        for style, (label, values) in zip(STYLES, lines.items(), strict=False):
            axes.plot(range(len(ticks)), values, label=label, **style)
        axes.set_xticks(range(len(ticks)), ticks)
        axes.set_xlabel(x_label)
        axes.set_title(name)
        everything = [value for values in lines.values() for value in values]
        if max(everything) > 30 * min(everything) > 0:
            axes.set_yscale("log")
            _plain(axes.yaxis)
        else:
            axes.set_ylim(bottom=0)
            axes.yaxis.set_major_formatter("{x:,.0f}" if max(everything) >= 10 else "{x:,.1f}")
    _axes_of(figure)[0].legend()
    _save(figure, path)


def tail(path: Path, lines: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    """Draw a latency distribution: pairs of a share below 1 and its latency in µs."""
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    (axes,) = _axes(figure, 1)
    for style, (label, points) in zip(STYLES, lines.items(), strict=False):
        beyond = [1 / (1 - share) for share, _ in points]
        axes.plot(beyond, [value for _, value in points], label=label, color=style["color"])
    axes.set_xscale("log")
    axes.set_yscale("log")
    shares = {1: "0", 2: "50", 10: "90", 100: "99", 1000: "99.9", 10_000: "99.99"}
    longest = max(1 / (1 - share) for points in lines.values() for share, _ in points)
    ticks = [place for place in shares if place <= longest]
    axes.set_xticks(ticks, [shares[place] for place in ticks])
    axes.minorticks_off()
    axes.set_xlabel("share of the requests, %")
    axes.set_ylabel("latency, µs")
    _plain(axes.yaxis)
    axes.legend()
    _save(figure, path)


def _axes(figure: Figure, count: int) -> list[Any]:
    return [figure.add_subplot(1, count, place + 1) for place in range(count)]


def _axes_of(figure: Figure) -> list[Any]:
    return list(figure.axes)


def _plain(axis: Any) -> None:
    axis.set_major_formatter("{x:,g}")


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
