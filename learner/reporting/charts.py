"""Charts of a run as SVG, by Matplotlib."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib

matplotlib.use("svg")

import matplotlib.pyplot as plt

WIDTH_INCHES, HEIGHT_INCHES = 7.0, 3.0
_COLOURS = ("#2a7f62", "#c8553d", "#3d5a80", "#b08900")

Curve = tuple[Sequence[float], Sequence[float]]


def line_chart(
    curves: Mapping[str, Curve],
    x_label: str,
    y_label: str,
    y_range: tuple[float, float] | None = None,
    group_of: Callable[[str], str] = lambda name: name,
    size: tuple[float, float] = (WIDTH_INCHES, HEIGHT_INCHES),
) -> str:
    """An SVG element with one line for each curve (x values, y values); an empty string without points.

    Args:
        group_of: of a curve's name; curves of a group have one colour and one entry in the legend.
        size: width and height in inches; letters stay as they are, so they are larger in a smaller chart.
    """
    if not any(len(x) for x, _ in curves.values()):
        return ""
    figure, axes = plt.subplots(figsize=size, layout="constrained")
    groups = list(dict.fromkeys(group_of(name) for name in curves))
    told: set[str] = set()
    for name, (x, y) in curves.items():
        group = group_of(name)
        colour = _COLOURS[groups.index(group) % len(_COLOURS)]
        axes.plot(x, y, label=None if group in told else group, color=colour, linewidth=1.6)
        told.add(group)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    if y_range:
        axes.set_ylim(*y_range)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(matplotlib.ticker.FuncFormatter(_short))
    if len(groups) > 1:
        axes.legend(frameon=False)
    return _svg(figure)


def curve_of(rows: Sequence[Mapping[str, float]], x: str, y: str) -> Curve:
    """The points of ``rows`` that have both figures."""
    points = [(r[x], r[y]) for r in rows if x in r and y in r and math.isfinite(r[y])]
    return [p[0] for p in points], [p[1] for p in points]


def _short(value: float, _position: Any) -> str:
    if abs(value) >= 1e6:
        return f"{value / 1e6:g} M"
    return f"{value / 1e3:g} k" if abs(value) >= 1e3 else f"{value:g}"


def _svg(figure: Any) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    plt.close(figure)
    text = out.getvalue()
    return text[text.index("<svg") :]
