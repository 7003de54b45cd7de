"""The Grafana dashboard, generated from the table of metrics so that names and meanings stay the same.

``python -m onibus.infra.deploy.dashboard`` writes ``infra/deploy/grafana/onibus.json``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client import Metric as Described

from onibus.infra.observability import metrics

FILE = Path(__file__).parent / "grafana" / "onibus.json"

_SOURCE = {"type": "prometheus", "uid": "prometheus"}
_COLUMNS = 3
_WIDTH, _HEIGHT = 24 // _COLUMNS, 8
_QUANTILES = (0.5, 0.95, 0.99)

Metric = Counter | Gauge | Histogram


@dataclass(frozen=True, slots=True)
class Panel:
    """One graph: counters as rates over all processes, gauges one by one, histograms as quantiles.

    ``by`` names the labels of counters whose values each get a line.
    """

    title: str
    metrics: Sequence[Metric]
    unit: str = "short"
    by: Sequence[str] = ()


ROWS: dict[str, Sequence[Panel]] = {
    "Learning": (
        Panel("Extrinsic and intrinsic return", [metrics.EXTRINSIC_RETURN, metrics.INTRINSIC_RETURN]),
        Panel("Steps per second", [metrics.STEPS_PER_SECOND], "ops"),
        Panel("Environment steps", [metrics.ENVIRONMENT_STEPS]),
        Panel("Intrinsic reward per step", [metrics.INTRINSIC_REWARD]),
        Panel("Share of captions with a label", [metrics.LABEL_COVERAGE], "percentunit"),
        Panel("Age of the newest label", [metrics.LABEL_AGE_SECONDS], "s"),
        Panel("Labels known", [metrics.LABELS_KNOWN]),
        Panel("Version of the reward model", [metrics.MODEL_VERSION]),
        Panel("Age of the reward model", [metrics.MODEL_AGE_SECONDS], "s"),
        Panel("First sights without a score", [metrics.UNSCORED], "percentunit"),
        Panel("Labels the reward model has not seen", [metrics.MODEL_AGE_LABELS]),
        Panel("Seconds from a caption to its first reward", [metrics.LABEL_TO_REWARD], "s"),
        Panel("Versions rejected", [metrics.MODELS_REFUSED], "ops", by=("reason",)),
        Panel("Score", [metrics.EPISODE_SCORE]),
        Panel("Depth and experience level", [metrics.EPISODE_DEPTH, metrics.EPISODE_EXPERIENCE_LEVEL]),
        Panel("Gold", [metrics.EPISODE_GOLD]),
        Panel("Game turns per episode", [metrics.EPISODE_TURNS]),
        Panel("Successes and deaths", [metrics.EPISODE_SUCCESS, metrics.EPISODE_DEATHS], "percentunit"),
        Panel("Squares seen per episode", [metrics.EPISODE_SCOUT]),
        Panel("Kills per episode", [metrics.EPISODE_KILLS]),
        Panel("BALROG's progression", [metrics.EPISODE_PROGRESSION], "percentunit"),
    ),
    "Reward trainer": (
        Panel("Versions", [metrics.REWARD_VERSIONS], "ops", by=("model",)),
        Panel("Gradient steps", [metrics.REWARD_GRADIENT_STEPS], "ops", by=("model",)),
        Panel("Loss", [metrics.REWARD_LOSS]),
        Panel(
            "Held-out accuracy, balanced accuracy, precision and recall",
            [
                metrics.REWARD_ACCURACY,
                metrics.REWARD_BALANCED_ACCURACY,
                metrics.REWARD_PRECISION,
                metrics.REWARD_RECALL,
            ],
            "percentunit",
        ),
        Panel("Held-out captions, and helpful ones", [metrics.REWARD_HELD_OUT, metrics.REWARD_HELPFUL]),
        Panel("Held-out Brier score", [metrics.REWARD_BRIER]),
        Panel("Age of the newest label in a version", [metrics.REWARD_LABEL_AGE_SECONDS], "s"),
    ),
    "Captions": (
        Panel("Captions published and new", [metrics.CAPTIONS_PUBLISHED, metrics.CAPTIONS_NEW], "ops"),
        Panel("Episodes published", [metrics.EPISODES_PUBLISHED], "ops"),
        Panel("Dropped", [metrics.CAPTIONS_DROPPED, metrics.EPISODES_DROPPED], "ops"),
    ),
    "Annotators": (
        Panel("Labels written", [metrics.LABELS_WRITTEN], "ops", by=("spec", "verdict")),
        Panel("Seconds from caption to label", [metrics.LABEL_LATENCY], "s"),
        Panel("The same, captions older than the annotator", [metrics.WAITING_LABEL_LATENCY], "s"),
        Panel("Captions read, and already known", [metrics.CAPTIONS_CONSUMED, metrics.CAPTIONS_KNOWN], "ops"),
        Panel("Comparisons won by the caption shown first, minus a half", [metrics.POSITION_BIAS]),
        Panel("Waiting", [metrics.PENDING, metrics.OWED_ON_LOG]),
        Panel("Requests to the model", [metrics.MODEL_CALLS], "ops", by=("outcome",)),
        Panel("Seconds per request", [metrics.MODEL_SECONDS], "s"),
        Panel("Requests to be retried", [metrics.MODEL_FAILURES], "ops", by=("reason",)),
        Panel("Model does not answer", [metrics.MODEL_CIRCUIT_OPEN, metrics.MODEL_CIRCUIT_OPENED]),
        Panel("Tokens", [metrics.TOKENS], "ops", by=("direction",)),
        Panel("Dollars per second", [metrics.COST], by=("spec",)),
        Panel("Transactions", [metrics.TRANSACTIONS], "ops", by=("outcome",)),
        Panel("Dead letters", [metrics.DEAD_LETTERS], "ops", by=("component",)),
        Panel("Unreadable records", [metrics.UNREADABLE], "ops", by=("topic",)),
        Panel("Positions that are no longer on the log", [metrics.POSITIONS_LOST], "ops", by=("topic",)),
    ),
}


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in ROWS.items():
        panels.append({"type": "row", "title": title, "gridPos": _place(0, top, 24, 1), "panels": []})
        for number, panel in enumerate(row):
            line, column = divmod(number, _COLUMNS)
            place = _place(column * _WIDTH, top + 1 + line * _HEIGHT, _WIDTH, _HEIGHT)
            panels.append(_graph(panel, place))
        top += 1 + -(-len(row) // _COLUMNS) * _HEIGHT
    return {
        "uid": "onibus",
        "title": "onibus",
        "schemaVersion": 41,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "panels": [{"id": number, **panel} for number, panel in enumerate(panels, 1)],
    }


def text() -> str:
    """The content of the dashboard's file."""
    return json.dumps(dashboard(), indent=2) + "\n"


def described(metric: Metric) -> Described:
    """A metric's name (without ``_total`` and the like) and help text."""
    return next(iter(metric.describe()))


def _graph(panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    targets = [target for metric in panel.metrics for target in _targets(metric, panel.by)]
    return {
        "type": "timeseries",
        "title": panel.title,
        "description": " ".join(described(metric).documentation for metric in panel.metrics),
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "targets": [{"refId": chr(ord("A") + n), **target} for n, target in enumerate(targets)],
    }


def _targets(metric: Metric, by: Sequence[str]) -> list[dict[str, str]]:
    name = described(metric).name
    plain = name.removeprefix("onibus_").replace("_", " ")
    if isinstance(metric, Histogram):
        total = f"sum by (le) (rate({name}_bucket[$__rate_interval]))"
        return [
            {"expr": f"histogram_quantile({q}, {total})", "legendFormat": f"{q:.0%} below"}
            for q in _QUANTILES
        ]
    grouped = f"sum by ({', '.join(by)})" if by else "sum"
    legend = " ".join(f"{{{{{label}}}}}" for label in by) or plain
    if isinstance(metric, Counter):
        return [{"expr": f"{grouped} (rate({name}_total[$__rate_interval]))", "legendFormat": legend}]
    return [{"expr": name, "legendFormat": f"{plain} {{{{instance}}}}"}]


def _place(left: int, top: int, width: int, height: int) -> dict[str, int]:
    return {"x": left, "y": top, "w": width, "h": height}


if __name__ == "__main__":
    FILE.write_text(text())
