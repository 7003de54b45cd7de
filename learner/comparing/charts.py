"""The charts of a comparison, as figures that become SVG or PDF."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from onibus.learner.comparing.comparison import Comparison, band
from onibus.learner.reporting.charts import COLOURS, new_axes, new_panels

_INCHES = (5.6, 2.8)
_PANEL_INCHES = (3.6, 3.0)
_MOST_PANELS = 4


@dataclass(frozen=True, slots=True)
class ComparisonChart:
    """A chart: its name as a file, its title, and the figure, which can be drawn once."""

    name: str
    title: str
    figure: Any


def curve_charts(comparison: Comparison) -> Iterator[ComparisonChart]:
    """For each metric a curve of every group, with its band over seeds."""
    for metric in comparison.metrics:
        figure, axes = new_axes("environment steps", _title(metric), _INCHES)
        _draw_curves(axes, comparison, metric)
        _name_lines(axes)
        yield ComparisonChart(f"curve-{metric}", _title(metric), figure)


def overview_chart(comparison: Comparison) -> Iterator[ComparisonChart]:
    """The curves of the first metrics beside each other, under one legend; nothing for a single metric."""
    metrics = comparison.metrics[:_MOST_PANELS]
    if len(metrics) < 2:
        return
    size = (_PANEL_INCHES[0] * len(metrics), _PANEL_INCHES[1])
    figure, panels = new_panels("environment steps", [_title(metric) for metric in metrics], size)
    for axes, metric in zip(panels, metrics, strict=True):
        _draw_curves(axes, comparison, metric)
    lines, names = panels[0].get_legend_handles_labels()
    figure.legend(lines, names, loc="outside upper center", ncols=len(names) or 1, frameon=False)
    yield ComparisonChart("curves", "Curves", figure)


def _draw_curves(axes: Any, comparison: Comparison, metric: str) -> None:
    for number, group in enumerate(comparison.groups):
        drawn = band(group, metric)
        if drawn is None:
            continue
        colour = COLOURS[number % len(COLOURS)]
        axes.plot(drawn.steps, drawn.mean, label=group.name, color=colour, linewidth=1.6)
        if np.isfinite(drawn.low).all():
            axes.fill_between(drawn.steps, drawn.low, drawn.high, color=colour, alpha=0.18, linewidth=0)


def profile_charts(comparison: Comparison) -> Iterator[ComparisonChart]:
    """For each metric the share of each group's runs that end above a value."""
    for metric in comparison.metrics:
        cuts, shares = comparison.profiles(metric)
        figure, axes = new_axes(f"{_title(metric)}, τ", "share of runs above τ", _INCHES)
        names = [group.name for group in comparison.groups]
        for name, share in shares.items():
            axes.step(cuts, share, label=name, color=COLOURS[names.index(name) % len(COLOURS)], where="post")
        axes.set_ylim(-0.03, 1.03)
        _name_lines(axes)
        yield ComparisonChart(f"profile-{metric}", _title(metric), figure)


def _title(metric: str) -> str:
    return metric.replace("_", " ").capitalize()


def _name_lines(axes: Any) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize="small")
