"""The learner's reward path: from a batch's caption ids and counts to its intrinsic rewards."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np

from onibus.learner.benchmarks.labels import SPEC, filled_table
from onibus.learner.benchmarks.result import Figure
from onibus.learner.rewards.formulas import RetrievalReward, SpecReward

TRANSITIONS = 1_024
DIFFERENT = 93
"""Different captions in a batch of 1,024 random steps of NetHack, as measured; 22 % of steps have none."""

REPETITIONS = 2_000


def measure(labels: int) -> list[Figure]:
    """Microseconds for a batch of 1,024 transitions with ``labels`` labels in the table."""
    table, known = filled_table(labels)
    rng = np.random.default_rng(0)
    captions = rng.choice(known, DIFFERENT)
    ids = np.where(rng.random(TRANSITIONS) < 0.22, 0, rng.choice(captions, TRANSITIONS)).astype(np.int64)
    ids = ids.reshape(-1, 32)
    counts = rng.integers(1, 20, ids.shape)
    reward = RetrievalReward(table, count_beta=3.0)
    reward.specs = (SpecReward(SPEC, 0.5),)
    scattered = rng.choice(known, (64, TRANSITIONS))
    rewarded = _median(lambda _: reward(ids, counts))
    among = _median(lambda n: table.verdicts(SPEC, scattered[n % len(scattered)]))
    return [
        Figure.at_most("reward of 1,024 transitions", rewarded, "µs", 100),
        Figure.at_most(f"look-up of 1,024 different ids among {labels:,} labels", among, "µs", 50),
        Figure("look-up of 1,024 ids of a batch", _median(lambda _: table.verdicts(SPEC, ids)), "µs"),
    ]


def _median(work: Callable[[int], object]) -> float:
    """Median microseconds of a call."""
    times = []
    for number in range(REPETITIONS):
        began = time.perf_counter_ns()
        work(number)
        times.append(time.perf_counter_ns() - began)
    return statistics.median(times) / 1_000
