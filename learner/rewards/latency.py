"""How long it takes from the first sight of a caption to the first batch that is rewarded for it."""

from __future__ import annotations

import time
from collections import OrderedDict, deque

import numpy as np
from numpy.typing import NDArray

from onibus.infra.observability import metrics

MOST_AWAITED = 20_000
"""Captions whose first reward is waited for; of more, the oldest are given up (most never earn one)."""
SAMPLES = 2_000
"""Newest latencies behind the quantiles."""


class RewardLatency:
    """Latencies of captions that were new in this run.

    One thread calls :meth:`expect`, another :meth:`rewarded`.
    """

    def __init__(self) -> None:
        self._started = time.time_ns() // 1000
        self._awaited: OrderedDict[int, int] = OrderedDict()
        self._done: OrderedDict[int, None] = OrderedDict()
        self._samples: deque[float] = deque(maxlen=SAMPLES)

    def expect(self, caption: int, observed_at: int) -> None:
        """A caption (look-up id) was observed then, in microseconds; only its first time counts."""
        if observed_at < self._started or caption in self._awaited or caption in self._done:
            return
        self._awaited[caption] = observed_at
        while len(self._awaited) > MOST_AWAITED:
            self._awaited.popitem(last=False)

    def rewarded(self, ids: NDArray[np.int64], rewards: NDArray[np.float32]) -> None:
        """A batch was rewarded: ids and rewards of the same shape."""
        if not self._awaited:
            return
        for caption in set(ids[rewards != 0].tolist()):
            observed_at = self._awaited.pop(caption, None)
            if observed_at is None:
                continue
            seconds = time.time() - observed_at / 1e6
            self._samples.append(seconds)
            metrics.LABEL_TO_REWARD.observe(seconds)
            self._done[caption] = None
            if len(self._done) > MOST_AWAITED:
                self._done.popitem(last=False)

    def statistics(self) -> dict[str, float]:
        """Median and 95th percentile in seconds, and how many there were; nothing before the first."""
        if not self._samples:
            return {}
        p50, p95 = np.quantile(list(self._samples), [0.5, 0.95])
        return {"label_to_reward_p50": float(p50), "label_to_reward_p95": float(p95)}
