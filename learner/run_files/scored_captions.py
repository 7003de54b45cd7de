"""The captions that a run's judges scored, with their last scores, kept with the run."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from onibus.infra.files import read_state, write_whole

SCORES_FILE = "scores.json"


class Scores(Protocol):
    """Captions that judges scored: :class:`~onibus.learner.rewards.scores.ModelScores`."""

    def known(self) -> Mapping[int, str]:
        """Texts by look-up id."""

    def scores(self, spec_id: bytes, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Scores, float32, of look-up ids, int64; NaN where there is none."""


@dataclass(frozen=True, slots=True)
class ScoredCaption:
    """A caption as judges see it, and the highest score that one of them gave."""

    text: str
    score: float


def keep_scores(folder: Path, scores: Scores, specs: Sequence[bytes]) -> None:
    """Write every caption that has a score under one of the specifications.

    Raises:
        OSError: they cannot be written.
    """
    known = scores.known()
    ids = np.array(list(known), np.int64)
    if not ids.size or not specs:
        return
    best = np.fmax.reduce([scores.scores(spec_id, ids) for spec_id in specs])
    rows = [
        [caption, text, round(float(score), 4)]
        for (caption, text), score in zip(known.items(), best, strict=True)
        if not math.isnan(score)
    ]
    write_whole(folder / SCORES_FILE, json.dumps(rows))


def kept_scores(folder: Path) -> dict[int, ScoredCaption]:
    """What :func:`keep_scores` kept of the run in ``folder``, by look-up id; empty without them."""
    return read_state(folder / SCORES_FILE, _by_caption, {})


def _by_caption(rows: Any) -> dict[int, ScoredCaption]:
    return {int(caption): ScoredCaption(str(text), float(score)) for caption, text, score in rows}
