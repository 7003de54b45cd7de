"""The charts of a run: what it learned, how its captions were judged, how fast it was."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from onibus.learner.options import LearnOptions
from onibus.learner.reporting.charts import Curve, curve_of, line_chart
from onibus.learner.reporting.headline import HELD_OUT
from onibus.learner.rewards.source import BY_SPEC
from onibus.learner.run_files.judging import SpecJudging
from onibus.producers.environments.caption_wrapper import STATISTIC_PREFIX

_INCHES = (5.6, 2.8)
"""Letters of such a chart can still be read where it is as narrow as a telephone."""

_POINTS = 1_000
"""Of a curve, at most: more cannot be told apart, and a page holds each chart twice."""

_EPISODES = {
    "success": "share of successes",
    "episode_steps": "steps of an episode",
    "score": "in-game score",
    "depth": "deepest level",
    "experience_level": "experience level",
    "gold": "gold",
    "turns": "game turns",
    "died": "share of deaths",
    "scout": "squares seen",
    "kills": "kills",
    "progression": "progression (BALROG)",
}

_LEARNING = {
    "entropy": ("Entropy of the policy", "nats"),
    "policy_loss": ("Policy loss", "loss"),
    "value_loss": ("Value loss", "loss, with its coefficient"),
    "kl_divergence": ("Change of the policy in an update", "Kullback-Leibler divergence"),
    "gradient_norm": ("Norm of the gradient", "before clipping"),
}

_COUNTED = {
    "captions published": "captions_published",
    "new captions": "captions_new",
    "labels in the table": "labels_known",
}

_X_LABELS = {"env_steps": "environment steps", "seconds": "seconds", "version": "version"}

_SHARES = (0.0, 1.05)
"""The range of an axis of shares."""

Rows = Sequence[Mapping[str, float]]


@dataclass(frozen=True)
class Chart:
    """A chart and what it shows; it is drawn when it is first asked for."""

    title: str
    draw: Callable[[], str]

    @cached_property
    def svg(self) -> str:
        """It as an SVG element."""
        return self.draw()

    @property
    def file(self) -> str:
        """Name of a file for it, without an ending."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")

    @property
    def address(self) -> str:
        """The chart as an address that a browser saves as a file."""
        return f"data:image/svg+xml;base64,{b64encode(self.svg.encode()).decode()}"


def run_charts(
    options: LearnOptions, history: Rows, system: Rows, versions: Rows, judging: Sequence[SpecJudging]
) -> list[Chart]:
    """Every chart that has something to show: none without two points, and none of what never changes.

    Args:
        history: of the run. system: what a demo noted of all its processes. versions: of the reward model.
        judging: of each spec.
    """
    found = [
        *_returns(options, history),
        *_learning(history),
        *_judged(history, judging),
        *_models(history, versions),
        *_speed(history, system),
    ]
    return [chart for chart in found if chart is not None]


def _chart(
    title: str,
    rows: Rows,
    x: str,
    lines: Mapping[str, str],
    y_label: str,
    y_range: tuple[float, float] | None = None,
) -> Chart | None:
    """Figures of ``rows`` over the figure ``x``: by what the legend calls a line, the name of its figure."""
    curves = {line: curve_of(rows, x, name) for line, name in lines.items()}
    return _chart_of(title, curves, _X_LABELS[x], y_label, y_range)


def _chart_of(
    title: str, curves: Mapping[str, Curve], x: str, y: str, y_range: tuple[float, float] | None
) -> Chart | None:
    """None where there is nothing to be seen."""
    if not any(len(set(xs)) > 1 and len(set(ys)) > 1 for xs, ys in curves.values()):
        return None
    thin = {name: _thinned(curve) for name, curve in curves.items() if len(curve[0])}
    return Chart(title, partial(line_chart, thin, x, y, y_range, size=_INCHES))


def _thinned(curve: Curve) -> Curve:
    xs, ys = curve
    if len(xs) <= _POINTS:
        return curve
    places = np.linspace(0, len(xs) - 1, _POINTS).astype(int).tolist()
    return [xs[place] for place in places], [ys[place] for place in places]


def _returns(options: LearnOptions, history: Rows) -> Iterator[Chart | None]:
    mean = f"mean of {options.episodes_averaged} episodes"
    yield _chart("Extrinsic return", history, "env_steps", {"extrinsic": "return"}, mean)
    each = "mean per episode"
    yield _chart("Intrinsic return", history, "env_steps", {"intrinsic": "intrinsic_return"}, each)
    specs = sorted({name for row in history for name in row if name.startswith(BY_SPEC)})
    by_spec = {name.removeprefix(BY_SPEC): name for name in specs}
    yield _chart("Intrinsic return by spec", history, "env_steps", by_spec, each)
    own = sorted({name for row in history for name in row if name.startswith(STATISTIC_PREFIX)})
    of_tasks = {name: name.removeprefix(STATISTIC_PREFIX).replace("_", " ") for name in own}
    for name, title in (_EPISODES | of_tasks).items():
        yield _chart(title[:1].upper() + title[1:], history, "env_steps", {title: name}, mean)


def _learning(history: Rows) -> Iterator[Chart | None]:
    for name, (title, what) in _LEARNING.items():
        yield _chart(title, history, "env_steps", {title: name}, what)


def _judged(history: Rows, judging: Sequence[SpecJudging]) -> Iterator[Chart | None]:
    covered = {"share": "label_coverage"}
    yield _chart("Captions with a label", history, "env_steps", covered, "share", _SHARES)
    for one in judging:
        title, shares = f"Verdicts under {one.name}", _shares(history, one)
        yield _chart_of(title, shares, _X_LABELS["env_steps"], "share of all so far", _SHARES)
    yield _chart("Captions and labels", history, "seconds", _COUNTED, "in all")


def _shares(history: Rows, judging: SpecJudging) -> dict[str, Curve]:
    """Of each verdict its share of those given so far, over the steps that the run had taken by then."""
    moments, steps = curve_of(history, "time", "env_steps")
    if not moments or not judging.times:
        return {}
    when = np.interp(judging.times, moments, steps)
    last_of_step = np.append(np.flatnonzero(np.diff(when)), len(when) - 1)
    given = {name: np.array(counts, float)[last_of_step] for name, counts in judging.verdicts.items()}
    total = sum(given.values(), np.zeros(len(last_of_step)))
    xs = when[last_of_step].tolist()
    return {name: (xs, (counts / total).tolist()) for name, counts in given.items()}


def _models(history: Rows, versions: Rows) -> Iterator[Chart | None]:
    yield _chart("Held-out accuracy of the reward model", versions, "version", HELD_OUT, "share", _SHARES)
    title, age = "Age of the reward model in use", {"age": "model_age_seconds"}
    yield _chart(title, history, "seconds", age, "seconds since it was written")


def _speed(history: Rows, system: Rows) -> Iterator[Chart | None]:
    yield _chart("Speed", history, "env_steps", {"speed": "steps_per_second"}, "steps per second")
    for title, rows, name, what in (
        ("Label latency", system, "latency", "seconds (bucket bounds)"),
        ("Latency of the language model", system, "model_latency", "seconds (bucket bounds)"),
        ("From the first sight of a caption to its first reward", history, "label_to_reward", "seconds"),
    ):
        yield _chart(title, rows, "seconds", {"median": f"{name}_p50", "95 %": f"{name}_p95"}, what)
    yield _chart("Consumer lag", system, "seconds", {"lag": "consumer_lag"}, "records")
