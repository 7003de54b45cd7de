"""Sums of a table's rows, with gradients, for networks whose inputs are integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

MOST_ROWS = 1 << 16
"""Of a table: their numbers are sorted as integers of 16 bits, for which NumPy needs no comparisons."""


def sums_of_rows(table: Tensor, rows: Tensor, count: int) -> Tensor:
    """Sums of ``count`` rows each, on a CPU.

    Added up in their order, forwards and backwards, so that the bits depend on nothing else. PyTorch adds up
    gradients of rows looked up one by one, which takes many times as long.

    Args:
        table: float32 (n, channels), n at most :data:`MOST_ROWS`.
        rows: integers (m * count,) below n.

    Returns:
        float32 (m, channels).
    """
    sums: Tensor = _SumsOfRows.apply(table, rows, count)  # type: ignore[no-untyped-call]
    return sums


class _SumsOfRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, rows: Tensor, count: int) -> Tensor:
        assert len(table) <= MOST_ROWS
        ctx.save_for_backward(rows)
        ctx.count, ctx.height = count, len(table)
        return _sums(table, rows, torch.arange(0, len(rows), count, dtype=rows.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (of_sums,), (rows,) = gradients, ctx.saved_tensors
        by_row = np.argsort(rows.numpy().astype(np.uint16), kind="stable")
        uses = torch.bincount(rows, minlength=ctx.height)
        return _sums(of_sums, torch.from_numpy(by_row // ctx.count), uses.cumsum(0) - uses), None, None


def _sums(table: Tensor, rows: Tensor, starts: Tensor) -> Tensor:
    """A sum for each of ``starts``, of the rows from there to the next one; 0 where that is none."""
    sums: Tensor = torch.embedding_bag(table.contiguous(), rows, starts)[0]
    return sums
