"""Which captions each gradient step sees: a function of the data and a seed, never of timing."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LARGEST_BATCH, SMALLEST_BATCH = 256, 32
_ROWS_FOR_EACH = 128
"""A batch has one of so many rows, within these bounds. What counts is the number of gradient steps: on a few
thousand rows batches of 32 teach as well as batches of 256, for a fifth of the work."""
SMALLEST_SHARE = 0.25
"""Least share of the rarer class in a batch: a few captions in a thousand are helpful, and a model that
never sees them learns to say no. Probabilities are calibrated to this mixture, not to the log's; the
published Brier score is that of the held-out captions as they are."""


def mini_batches(belongs: NDArray[np.bool_], steps: int, seed: int) -> Iterator[Tensor]:
    """Row numbers of each step's batch, int64 (b,) with b from 32 to 256, or all of fewer rows.

    Each of the two classes is gone through in a random order, then in another; the random numbers are
    torch's, so a version's torch version fixes them too.

    Args:
        belongs: bool (n,), n > 0: which of the two classes each row belongs to.
        steps: number of batches.
        seed: 0 <= seed < 2 ** 63.
    """
    generator = torch.Generator().manual_seed(seed)
    size = min(LARGEST_BATCH, max(SMALLEST_BATCH, len(belongs) // _ROWS_FOR_EACH), len(belongs))
    least = math.ceil(SMALLEST_SHARE * size)
    share = min(max(round(size * float(belongs.mean())), least), size - least)
    if belongs.all() or not belongs.any():
        share = size if belongs.all() else 0
    classes = [
        (_again_and_again(np.flatnonzero(belongs), generator), share),
        (_again_and_again(np.flatnonzero(~belongs), generator), size - share),
    ]
    for _ in range(steps):
        chosen = [next(rows) for rows, count in classes for _ in range(count)]
        yield torch.tensor(chosen)


def _again_and_again(rows: NDArray[np.intp], generator: torch.Generator) -> Iterator[int]:
    while True:
        for place in torch.randperm(len(rows), generator=generator).tolist():
            yield int(rows[place])
