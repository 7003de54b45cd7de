"""The charts of a comparison, as figures that become SVG or PDF."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from onibus.learner.comparing.comparison import Comparison, band
from onibus.learner.reporting.charts import COLOURS, new_axes

_INCHES = (5.6, 2.8)


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart: its name as a file, its title, and the figure, which can be drawn once."""

    name: str
    title: str
    figure: Any


def curve_charts(comparison: Comparison) -> Iterator[Chart]:
    """For each metric a curve of every group, with its band over seeds."""
    for metric in comparison.metrics:
        figure, axes = new_axes("environment steps", "mean of 100 episodes", _INCHES)
        for number, group in enumerate(comparison.groups):
            drawn = band(group, metric)
            if drawn is None:
                continue
            colour = COLOURS[number % len(COLOURS)]
            axes.plot(drawn.steps, drawn.mean, label=group.name, color=colour, linewidth=1.6)
            if np.isfinite(drawn.low).all():
                axes.fill_between(drawn.steps, drawn.low, drawn.high, color=colour, alpha=0.18, linewidth=0)
        _name_lines(axes)
        yield Chart(f"curve-{metric}", _title(metric), figure)


def profile_charts(comparison: Comparison) -> Iterator[Chart]:
    """For each metric the share of each group's runs that end above a value."""
    for metric in comparison.metrics:
        cuts, shares = comparison.profiles(metric)
        figure, axes = new_axes(f"{_title(metric)}, τ", "share of runs above τ", _INCHES)
        names = [group.name for group in comparison.groups]
        for name, share in shares.items():
            axes.step(cuts, share, label=name, color=COLOURS[names.index(name) % len(COLOURS)], where="post")
        axes.set_ylim(-0.03, 1.03)
        _name_lines(axes)
        yield Chart(f"profile-{metric}", _title(metric), figure)


def _title(metric: str) -> str:
    return metric.replace("_", " ").capitalize()


def _name_lines(axes: Any) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize="small")
