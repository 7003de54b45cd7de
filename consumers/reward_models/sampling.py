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
"""Least share of the rarer of decided and tied pairs in a batch. An order has no prior that this could
shift."""

HIDDEN = 0xFF
"""The byte that stands for a hidden one: UTF-8 has no such byte."""


def uniform_batches(
    count: int, steps: int, generator: torch.Generator, batch: int | None = None
) -> Iterator[Tensor]:
    """Row numbers of each step's batch, as :func:`mini_batches`, but every row has the same chance.

    A class that is drawn more often than it comes up moves p(helpful) up by the same factor in its odds
    (King and Zeng 2001, doi 10.1093/oxfordjournals.pan.a004868), and shows a model the few wrong answers so
    often that it learns them by heart.
    """
    size = _batch_size(count) if batch is None else min(batch, count)
    rows = _again_and_again(np.arange(count), generator)
    for _ in range(steps):
        yield torch.tensor([next(rows) for _ in range(size)])


def with_hidden_bytes(captions: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Captions (n, 256) uint8 in which a share of the bytes is hidden, others in each turn.

    Dropout of the input: to know one caption by heart, a network needs the few bytes that it has alone; what
    makes captions helpful is said by many bytes of many captions.
    """
    if not share:
        return captions
    hidden = (torch.rand(captions.shape, generator=generator) < share) & (captions > 0)
    return captions.masked_fill(hidden, HIDDEN)


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
    size = _batch_size(len(belongs))
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


def _batch_size(rows: int) -> int:
    return min(LARGEST_BATCH, max(SMALLEST_BATCH, rows // _ROWS_FOR_EACH), rows)


def _again_and_again(rows: NDArray[np.intp], generator: torch.Generator) -> Iterator[int]:
    while True:
        for place in torch.randperm(len(rows), generator=generator).tolist():
            yield int(rows[place])
