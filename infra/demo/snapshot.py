"""The figures of a running demo at one moment."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from onibus.infra.observability.scraping import Scrape


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the live view shows and ``system.jsonl`` keeps; NaN where nothing is known yet.

    Latencies are seconds: from observing a caption to committing its label, from asking a model to its
    answer, from observing a caption to the first batch rewarded for it. They are upper bounds of histogram
    buckets. ``unreadable_share``: of the model's answers. ``cost_usd``: of these, if there are prices.
    """

    time: float
    seconds: float
    env_steps: float
    steps_per_second: float
    episode_return: float
    intrinsic_return: float
    intrinsic_reward: float
    label_coverage: float
    captions_published: float
    captions_new: float
    captions_dropped: float
    captions_known: float
    labels_known: float
    model_version: float
    model_age_seconds: float
    model_accuracy: float
    model_precision: float
    model_recall: float
    labels_written: float
    cost_usd: float
    model_calls: float
    unreadable_share: float
    dead_letters: float
    consumer_lag: float
    latency_p50: float
    latency_p95: float
    model_latency_p50: float
    model_latency_p95: float
    reward_latency_p50: float
    reward_latency_p95: float

    def to_json(self) -> dict[str, float]:
        """Known figures by name."""
        return {k: v for k, v in asdict(self).items() if not math.isnan(v)}


UNKNOWN = Snapshot(**dict.fromkeys(Snapshot.__dataclass_fields__, math.nan) | {"time": 0.0, "seconds": 0.0})
"""Before anything was scraped."""


def labels_at_start(history: Iterable[Snapshot]) -> float:
    """Labels that were on the bus before the demo's annotators wrote any; NaN if the learner never said."""
    known = (s.labels_known - s.labels_written for s in history if not math.isnan(s.labels_known))
    first = next(known, math.nan)
    return first if math.isnan(first) else max(0.0, first)


def take_snapshot(
    seconds: float, learner: Scrape, annotators: Scrape, trainer: Scrape, lag: int | None
) -> Snapshot:
    """Put together what was scraped ``seconds`` after the start."""

    def gauge(name: str, of: Scrape = learner) -> float:
        present = any(n == name for n, _ in of.samples)
        return of.total(name) if present else math.nan

    def quantile(of: Scrape, name: str, q: float) -> float:
        found = of.quantile(name, q)
        return math.nan if found is None else found

    def unreadable_share() -> float:
        calls = annotators.total("onibus_model_calls_total")
        unreadable = annotators.total("onibus_model_calls_total", outcome="unreadable")
        return unreadable / calls if calls else math.nan

    steps = gauge("onibus_environment_steps")
    started = not math.isnan(steps) and steps > 0

    def once_started(name: str) -> float:
        return gauge(name) if started else math.nan

    return Snapshot(
        time=time.time(),
        seconds=seconds,
        env_steps=steps,
        steps_per_second=once_started("onibus_environment_steps_per_second"),
        episode_return=once_started("onibus_extrinsic_return"),
        intrinsic_return=once_started("onibus_intrinsic_return"),
        intrinsic_reward=once_started("onibus_intrinsic_reward"),
        label_coverage=once_started("onibus_label_coverage"),
        captions_published=learner.total("onibus_captions_published_total"),
        captions_new=learner.total("onibus_captions_new_total"),
        captions_dropped=learner.total("onibus_captions_dropped_total"),
        captions_known=annotators.total("onibus_captions_known_total"),
        labels_known=once_started("onibus_labels_known"),
        model_version=once_started("onibus_model_version"),
        model_age_seconds=once_started("onibus_model_age_seconds"),
        model_accuracy=gauge("onibus_reward_held_out_accuracy", trainer),
        model_precision=gauge("onibus_reward_held_out_precision", trainer),
        model_recall=gauge("onibus_reward_held_out_recall", trainer),
        labels_written=annotators.total("onibus_labels_written_total"),
        cost_usd=gauge("onibus_cost_usd_total", annotators),
        model_calls=annotators.total("onibus_model_calls_total"),
        unreadable_share=unreadable_share(),
        dead_letters=annotators.total("onibus_dead_letters_total"),
        consumer_lag=math.nan if lag is None else float(lag),
        latency_p50=quantile(annotators, "onibus_label_latency_seconds", 0.5),
        latency_p95=quantile(annotators, "onibus_label_latency_seconds", 0.95),
        model_latency_p50=quantile(annotators, "onibus_model_seconds", 0.5),
        model_latency_p95=quantile(annotators, "onibus_model_seconds", 0.95),
        reward_latency_p50=quantile(learner, "onibus_label_to_reward_seconds", 0.5),
        reward_latency_p95=quantile(learner, "onibus_label_to_reward_seconds", 0.95),
    )
