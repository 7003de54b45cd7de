"""From the first sight of a caption to the first batch that is rewarded for it."""

from __future__ import annotations

import time

import numpy as np

from onibus.learner.rewards import latency as reward_latency
from onibus.learner.rewards.latency import RewardLatency


def now_us() -> int:
    return time.time_ns() // 1000


def batch(latency: RewardLatency, *rewarded: int) -> None:
    latency.rewarded(np.array([0, 1, *rewarded]), np.array([0, 0, *(1.0 for _ in rewarded)], np.float32))


def test_the_first_reward_of_a_new_caption_counts_and_no_later_one() -> None:
    latency = RewardLatency()
    latency.expect(5, now_us() + 1)
    assert latency.statistics() == {}
    batch(latency, 7)
    assert latency.statistics() == {}
    batch(latency, 5)
    first = latency.statistics()
    assert 0 <= first["label_to_reward_p50"] < 10
    latency.expect(5, now_us())
    batch(latency, 5)
    assert latency.statistics() == first


def test_captions_from_before_the_run_do_not_count() -> None:
    latency = RewardLatency()
    latency.expect(5, now_us() - 60_000_000)
    batch(latency, 5)
    assert latency.statistics() == {}


def test_what_is_waited_for_is_bounded(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(reward_latency, "MOST_AWAITED", 2)
    latency = RewardLatency()
    for caption in (5, 6, 7):
        latency.expect(caption, now_us() + 1)
    batch(latency, 5)
    assert latency.statistics() == {}, "given up"
    batch(latency, 7)
    assert latency.statistics()
