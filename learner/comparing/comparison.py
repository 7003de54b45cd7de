"""What groups of runs come to: curves, final values, how likely one is above another, what they cost."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from onibus.learner.comparing.groups import Group, Run, differing
from onibus.learner.intervals import (
    Estimate,
    Values,
    band_of_means,
    estimate,
    performance_profile,
    probability_of_improvement,
)
from onibus.learner.reporting.charts import curve_of
from onibus.learner.run_files.history import EPISODE_STATISTICS

FINAL_SHARE = 0.1
"""The final value of a run is the mean over this last part of its steps."""
POINTS = 200
"""Of a curve."""

METRICS = tuple(dict.fromkeys(["return", "intrinsic_return", *EPISODE_STATISTICS.values()]))
"""What a history says of episodes: each a mean of the last hundred."""


@dataclass(frozen=True, slots=True)
class Band:
    """A curve over the seeds of a group, each float64 (POINTS,); the band is NaN where there is one seed."""

    steps: Values
    mean: Values
    low: Values
    high: Values


@dataclass(frozen=True, slots=True)
class GroupCost:
    """What the runs of a group took, in all."""

    env_steps: float
    hours: float
    cpu_hours: float
    captions_published: float

    @property
    def steps_per_second(self) -> float:
        """Speed of one run, on average."""
        return self.env_steps / (3600 * self.hours) if self.hours else math.nan


@dataclass(frozen=True, slots=True)
class Improvement:
    """How likely a run of ``ours`` is to be above one of ``theirs``."""

    ours: str
    theirs: str
    probability: Estimate


@dataclass(frozen=True)
class Comparison:
    """Groups of runs, and the figures by which they are compared.

    Attributes:
        groups: of runs that are alike but for the seed.
        metrics: by which they are compared.
    """

    groups: Sequence[Group]
    metrics: Sequence[str]

    def finals(self, group: Group, metric: str) -> list[float]:
        """The final value of each run that has one."""
        values = (final_value(run, metric) for run in group.runs)
        return [value for value in values if not math.isnan(value)]

    def improvements(self, metric: str) -> Iterator[Improvement]:
        """Of each group over each other one that plays the same task."""
        for ours in self.groups:
            for theirs in self.groups:
                if ours is not theirs and ours.options["task"] == theirs.options["task"]:
                    found = probability_of_improvement(self.finals(ours, metric), self.finals(theirs, metric))
                    yield Improvement(ours.name, theirs.name, found)

    def profiles(self, metric: str) -> tuple[list[float], dict[str, Values]]:
        """Thresholds, and by group the share of runs whose final value is above each."""
        finals = {group.name: self.finals(group, metric) for group in self.groups}
        known = [value for values in finals.values() for value in values]
        if not known:
            return [], {}
        margin = (max(known) - min(known)) * 0.05 or 1.0
        cuts = np.linspace(min(known) - margin, max(known) + margin, POINTS).tolist()
        return cuts, {name: performance_profile(values, cuts) for name, values in finals.items() if values}

    def to_json(self) -> dict[str, Any]:
        """Everything but the curves."""
        return {
            "groups": [_group_json(self, group) for group in self.groups],
            "differing": dict(differing(self.groups)),
            "probability_of_improvement": {
                metric: [
                    {"ours": one.ours, "theirs": one.theirs} | one.probability.to_json()
                    for one in self.improvements(metric)
                ]
                for metric in self.metrics
            },
        }


def compare(groups: Sequence[Group], metrics: Sequence[str] = ()) -> Comparison:
    """Hold groups against each other.

    Args:
        metrics: by which; empty: those of :data:`METRICS` that are not the same in all of the runs, or, if
            all are the same, those that there are.
    """
    rows = [row for group in groups for run in group.runs for row in run.rows]
    values = {name: {row[name] for row in rows if name in row} for name in METRICS}
    vary = [name for name in METRICS if len(values[name]) > 1]
    return Comparison(groups, metrics or vary or [name for name in METRICS if values[name]])


def final_value(run: Run, metric: str) -> float:
    """The mean of a metric over the last :data:`FINAL_SHARE` of a run's steps; NaN without one."""
    since = run.env_steps * (1 - FINAL_SHARE)
    values = [row[metric] for row in run.rows if metric in row and row["env_steps"] >= since]
    return sum(values) / len(values) if values else math.nan


def band(group: Group, metric: str) -> Band | None:
    """The group's curve up to the steps that all of its runs have; None if none has the metric.

    The band is the 95 % bootstrap interval of the mean over seeds, at each point.
    """
    curves = [curve_of(run.rows, "env_steps", metric) for run in group.runs]
    curves = [(x, y) for x, y in curves if x]
    if not curves:
        return None
    steps = np.linspace(max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves), POINTS)
    at_steps = np.stack([np.interp(steps, x, y) for x, y in curves])
    return Band(steps, at_steps.mean(axis=0), *band_of_means(at_steps))


def cost(group: Group) -> GroupCost:
    """What the group's runs took together."""
    return GroupCost(
        env_steps=sum(run.env_steps for run in group.runs),
        hours=sum(run.seconds for run in group.runs) / 3600,
        cpu_hours=sum(run.cpu_seconds for run in group.runs) / 3600,
        captions_published=sum(run.rows[-1].get("captions_published", 0.0) for run in group.runs),
    )


def _group_json(comparison: Comparison, group: Group) -> dict[str, Any]:
    spent = cost(group)
    return {
        "name": group.name,
        "runs": [run.name for run in group.runs],
        "seeds": [run.options.seed for run in group.runs],
        "options": group.options,
        "final": {
            metric: estimate(values).to_json() | {"runs": values}
            for metric in comparison.metrics
            if (values := comparison.finals(group, metric))
        },
        "cost": asdict(spent) | {"steps_per_second": spent.steps_per_second},
    }
