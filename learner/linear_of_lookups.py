"""A linear layer over looked-up rows: what a batch has many times is computed once."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from onibus.consumers.reward_models.sums_of_rows import MOST_ROWS, sums_of_rows
from onibus.learner.large_layers import looked_up

_ROWS_WORTH_IT = 256
"""Below, finding out what recurs takes longer than what it saves."""
_RECURRENCE = 4
"""Rows of the batch for each of the integers that one place has, at least."""


def linear_of_lookups(which: Tensor, table: Tensor, linear: nn.Linear) -> Tensor:
    """``linear(table[which].flatten(1))`` and its gradients, but for rounding.

    What an integer at a place adds to the result depends on both alone: it is the product of its row and the
    place's weights. A place of NetHack's map shows a few dozen glyphs in a thousand observations, so a batch
    that is learned from gets a table of these products, and each result is a sum of the table's rows. On one
    core of an AMD EPYC, for 81 glyphs of 16 features to 128, forwards and backwards, that takes 4 us per row
    of 1,024 instead of 14. Other batches, and those on other devices, are computed by the formula above.

    Args:
        which: integers (B, …), P for each row.
        table: (n, D), what each integer stands for.
        linear: from P * D features to O.

    Returns:
        float (B, O).
    """
    lookups = _lookups(which, len(table)) if _may_recur(which, table, linear) else None
    if lookups is None:
        product: Tensor = linear(looked_up(table, which).flatten(1))
        return product
    integers, rows = lookups
    stand_for = table.index_select(0, integers.flatten()).view(*integers.shape, -1)
    weights = linear.weight.view(linear.out_features, len(integers), -1).permute(1, 2, 0)
    sums = sums_of_rows(torch.bmm(stand_for, weights).flatten(0, 1), rows, len(integers))
    return sums if linear.bias is None else sums + linear.bias


def _may_recur(which: Tensor, table: Tensor, linear: nn.Linear) -> bool:
    return (
        torch.is_grad_enabled()
        and which.device.type == "cpu"
        and len(which) >= _ROWS_WORTH_IT
        and table.dtype == linear.weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
    )


def _lookups(which: Tensor, height: int) -> tuple[Tensor, Tensor] | None:
    """Which rows of a table of products a batch adds up. The table has R rows for each of P places.

    Returns:
        int64 (P, R), of which integer each row of the table is, of unused rows any that the batch has; and
        int64 (B * P,), the rows in the batch's order. None where the batch has too little in common, or an
        integer that is not below ``height``.
    """
    seen: NDArray[np.int64] = which.reshape(len(which), -1).long().numpy()
    if seen.size == 0 or seen.min() < 0 or seen.max() >= height:
        return None
    distinct, seen = _numbered(seen, height)
    places = seen.shape[1]
    seen += np.arange(places) * len(distinct)
    used = np.bincount(seen.reshape(-1), minlength=places * len(distinct)).reshape(places, -1) > 0
    most = int(used.sum(1).max())
    if len(which) < _RECURRENCE * most or places * most > MOST_ROWS:
        return None
    row_of = used.cumsum(1) - 1 + np.arange(places)[:, None] * most
    integers = np.full((places, most), distinct[0])
    integers.reshape(-1)[row_of[used]] = distinct[used.nonzero()[1]]
    rows = row_of.reshape(-1).take(seen.reshape(-1))
    return torch.from_numpy(integers), torch.from_numpy(rows)


def _numbered(integers: NDArray[np.int64], height: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The distinct ones, ascending, and each one's number among them."""
    is_there = np.zeros(height, np.bool_)
    is_there[integers] = True
    distinct = is_there.nonzero()[0]
    numbers = np.zeros(height, np.int64)
    numbers[distinct] = np.arange(len(distinct))
    return distinct, numbers.take(integers)
