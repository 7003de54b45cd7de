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
COLOURS = ("#2a7f62", "#c8553d", "#3d5a80", "#b08900", "#7a4e9c", "#4f9bb5", "#8c6d5a", "#5c6b2f")

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
    figure, axes = new_axes(x_label, y_label, size)
    groups = list(dict.fromkeys(group_of(name) for name in curves))
    told: set[str] = set()
    for name, (x, y) in curves.items():
        group = group_of(name)
        colour = COLOURS[groups.index(group) % len(COLOURS)]
        axes.plot(x, y, label=None if group in told else group, color=colour, linewidth=1.6)
        told.add(group)
    if y_range:
        axes.set_ylim(*y_range)
    if len(groups) > 1:
        axes.legend(frameon=False)
    return svg_of(figure)


def new_axes(x_label: str, y_label: str, size: tuple[float, float]) -> tuple[Any, Any]:
    """Figure and axes in the look of all charts."""
    figure, (axes,) = new_panels(x_label, [y_label], size)
    return figure, axes


def new_panels(x_label: str, y_labels: Sequence[str], size: tuple[float, float]) -> tuple[Any, list[Any]]:
    """The same with several axes beside each other, one for each of ``y_labels``."""
    figure, row = plt.subplots(1, len(y_labels), figsize=size, layout="constrained", squeeze=False)
    for axes, y_label in zip(row[0], y_labels, strict=True):
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(matplotlib.ticker.FuncFormatter(_short))
    return figure, list(row[0])


def curve_of(rows: Sequence[Mapping[str, float]], x: str, y: str) -> Curve:
    """The points of ``rows`` that have both figures."""
    points = [(r[x], r[y]) for r in rows if x in r and y in r and math.isfinite(r[y])]
    return [p[0] for p in points], [p[1] for p in points]


def _short(value: float, _position: Any) -> str:
    if abs(value) >= 1e6:
        return f"{value / 1e6:g} M"
    return f"{value / 1e3:g} k" if abs(value) >= 1e3 else f"{value:g}"


def svg_of(figure: Any) -> str:
    """The figure as an SVG element; it is closed."""
    text = _drawn(figure, "svg", {"Date": None}).decode()
    return text[text.index("<svg") :]


def pdf_of(figure: Any) -> bytes:
    """The figure as a PDF file; it is closed."""
    return _drawn(figure, "pdf", {"CreationDate": None})


def _drawn(figure: Any, kind: str, metadata: Mapping[str, Any]) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format=kind, metadata=metadata)
    plt.close(figure)
    return out.getvalue()
