"""How often each caption came up in a run and what it earned: what a report is made of."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onibus.infra.files import read_state, write_whole
from onibus.schemas.ids import NO_CAPTION

TALLY_FILE = "captions.json"
DEFAULT_LIMIT = 50_000
"""Captions kept; NetHack shows about 800 different ones in 60,000 random steps. The rarest go first."""

_ROWS_AT_A_TIME = 1_000
"""As JSON they take a millisecond, for which other threads wait: the encoder does not let go of the GIL."""


class CaptionTotal(NamedTuple):
    """Totals of one caption: steps that brought it about, and the intrinsic reward they earned."""

    steps: int = 0
    reward: float = 0.0


class CaptionTally:
    """Totals by look-up id, ascending, bounded by ``limit`` captions."""

    def __init__(self, limit: int = DEFAULT_LIMIT) -> None:
        self._limit = limit
        self._ids = np.zeros(0, np.int64)
        self._steps = np.zeros(0, np.int64)
        self._rewards = np.zeros(0, np.float64)

    @property
    def distinct(self) -> int:
        """How many captions there are."""
        return len(self._ids)

    @property
    def totals(self) -> dict[int, CaptionTotal]:
        """All of them, by id; made anew at each call."""
        columns = (column.tolist() for column in (self._ids, self._steps, self._rewards))
        return {c: CaptionTotal(steps, reward) for c, steps, reward in zip(*columns, strict=True)}

    def snapshot(self) -> CaptionTally:
        """The tally as it is now, for another thread to save."""
        return copy.deepcopy(self)

    def add(self, ids: NDArray[np.int64], rewards: NDArray[np.float32]) -> None:
        """Count a batch: ``ids`` int64 and ``rewards`` float32 of the same shape."""
        flat = ids.reshape(-1)
        unique, inverse, steps = np.unique(flat, return_inverse=True, return_counts=True)
        earned = np.bincount(inverse, weights=rewards.reshape(-1), minlength=len(unique))
        captioned = unique != NO_CAPTION
        self._add(unique[captioned], steps[captioned], earned[captioned])
        if len(self._ids) > self._limit:
            self._forget_rarest()

    def save(self, folder: Path) -> None:
        """Write the totals beside the run's checkpoints, whole or not at all.

        Raises:
            OSError: they cannot be written.
        """
        parts = []
        for start in range(0, len(self._ids), _ROWS_AT_A_TIME):
            part = slice(start, start + _ROWS_AT_A_TIME)
            columns = self._ids[part], self._steps[part], self._rewards[part].round(4)
            parts.append(json.dumps([*zip(*(c.tolist() for c in columns), strict=True)])[1:-1])
        write_whole(folder / TALLY_FILE, f"[{', '.join(parts)}]")

    @classmethod
    def load(cls, folder: Path) -> CaptionTally:
        """The totals of an earlier part of the run; empty where there are none that can be read."""
        tally = cls()
        ids, steps, rewards = read_state(folder / TALLY_FILE, _columns, _columns([]))
        tally._add(ids, steps, rewards)
        return tally

    def _add(self, ids: NDArray[np.int64], steps: NDArray[np.int64], rewards: NDArray[np.float64]) -> None:
        """Add totals of ids, ascending and each once."""
        places = np.searchsorted(self._ids, ids)
        known = np.zeros(len(ids), bool)
        inside = places < len(self._ids)
        known[inside] = self._ids[places[inside]] == ids[inside]
        self._steps[places[known]] += steps[known]
        self._rewards[places[known]] += rewards[known]
        new, where = ~known, places[~known]
        self._ids = np.insert(self._ids, where, ids[new])
        self._steps = np.insert(self._steps, where, steps[new])
        self._rewards = np.insert(self._rewards, where, rewards[new])

    def _forget_rarest(self) -> None:
        kept = np.sort(np.argsort(-self._steps, kind="stable")[: self._limit // 2])
        self._ids, self._steps, self._rewards = self._ids[kept], self._steps[kept], self._rewards[kept]


def _columns(rows: Any) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Ids, ascending, steps and rewards of rows as they are kept."""
    by_id = {int(caption): (int(steps), float(reward)) for caption, steps, reward in rows}
    ids = sorted(by_id)
    return (
        np.array(ids, np.int64),
        np.array([by_id[c][0] for c in ids], np.int64),
        np.array([by_id[c][1] for c in ids], np.float64),
    )
