"""How often each caption came up in a run and what it earned: what a report is made of."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onibus.infra.files import read_state, write_whole
from onibus.schemas.ids import NO_CAPTION

TALLY_FILE = "captions.json"
DEFAULT_LIMIT = 50_000
"""Captions kept; NetHack shows about 800 different ones in 60,000 random steps. The rarest go first."""


@dataclass(slots=True)
class CaptionTotal:
    """Totals of one caption: steps that brought it about, and the intrinsic reward they earned."""

    steps: int = 0
    reward: float = 0.0


class CaptionTally:
    """Totals by lookup id, bounded by ``limit`` captions."""

    def __init__(self, limit: int = DEFAULT_LIMIT) -> None:
        self._limit = limit
        self.totals: dict[int, CaptionTotal] = {}

    def add(self, ids: NDArray[np.int64], rewards: NDArray[np.float32]) -> None:
        """Count a batch: ``ids`` int64 and ``rewards`` float32 of the same shape."""
        unique, inverse, steps = np.unique(ids.reshape(-1), return_inverse=True, return_counts=True)
        earned = np.bincount(inverse, weights=rewards.reshape(-1), minlength=len(unique))
        for caption, count, reward in zip(unique.tolist(), steps.tolist(), earned.tolist(), strict=True):
            if caption == NO_CAPTION:
                continue
            total = self.totals.setdefault(caption, CaptionTotal())
            total.steps += count
            total.reward += reward
        if len(self.totals) > self._limit:
            self._forget_rarest()

    def save(self, folder: Path) -> None:
        """Write the totals beside the run's checkpoints, whole or not at all.

        Raises:
            OSError: they cannot be written.
        """
        rows = [[c, t.steps, round(t.reward, 4)] for c, t in self.totals.items()]
        write_whole(folder / TALLY_FILE, json.dumps(rows))

    @classmethod
    def load(cls, folder: Path) -> CaptionTally:
        """The totals of an earlier part of the run; empty where there are none that can be read."""
        tally = cls()
        tally.totals = read_state(folder / TALLY_FILE, _totals, {})
        return tally

    def _forget_rarest(self) -> None:
        kept = sorted(self.totals.items(), key=lambda item: item[1].steps, reverse=True)
        self.totals = dict(kept[: self._limit // 2])


def _totals(rows: Any) -> dict[int, CaptionTotal]:
    return {int(caption): CaptionTotal(int(steps), float(reward)) for caption, steps, reward in rows}
