"""PyTorch's layers where most of a step's arithmetic is, in forms that take less of a CPU's time.

Figures are of one core of an AMD EPYC with AVX-512, per row of 1,024.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

Product = Any
"""Of rows (B, I), weights (O, I) and a bias (O,) or None: (B, O)."""


class ManyLookups(nn.Embedding):
    """``nn.Embedding``, with its parameters and results, for integers of any kind that are many on a CPU.

    PyTorch adds up gradients with a call for each integer: for 81 of them 3.5 us, this way 1.1 us.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Integers (…) to float (…, D)."""
        return super().forward(input.int()) if self.padding_idx is not None else looked_up(self.weight, input)


def looked_up(table: Tensor, which: Tensor) -> Tensor:
    """Rows of a table (n, D) for integers (…): (…, D); see :class:`ManyLookups`."""
    if which.device.type != "cpu":
        return nn.functional.embedding(which.int(), table)
    flat = which.reshape(-1).long()  # of other integers PyTorch adds up one by one here, too
    return table.index_select(0, flat).view(*which.shape, table.shape[1])


class LargeLinear(nn.Linear):
    """``nn.Linear``, with its parameters and, but for rounding, its results.

    PyTorch leaves such products to MKL, which does without AVX-512 on processors that are not Intel's. Here
    oneDNN has them, for float32 (B, I) on a CPU: from 1,296 features to 128, forwards and backwards, 6.6 us
    instead of 10.3; of 32 rows the forward pass alone 2.3 us instead of 5.3. Everything else is as usual.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(B, I) to (B, O)."""
        product = _product() if _is_plain(input) else None
        if product is None:
            return super().forward(input)
        if torch.is_grad_enabled():
            result: Tensor = _Differentiable.apply(input, self.weight, self.bias)  # type: ignore[no-untyped-call]
            return result
        by_one_dnn: Tensor = product(input, self.weight, self.bias)
        return by_one_dnn


class _Differentiable(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(rows, weight)
        ctx.has_bias = bias is not None
        result: Tensor = _product()(rows, weight, bias)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (of_result,) = gradients
        rows, weight = ctx.saved_tensors
        of_rows = _product()(of_result, weight.t().contiguous(), None) if ctx.needs_input_grad[0] else None
        # By MKL: for oneDNN the rows, which are many, would have to be transposed first.
        return of_rows, of_result.t() @ rows, of_result.sum(0) if ctx.has_bias else None


def _is_plain(rows: Tensor) -> bool:
    return (
        rows.dim() == 2
        and rows.dtype == torch.float32
        and rows.device.type == "cpu"
        and not torch.is_autocast_enabled("cpu")
    )


@cache
def _product() -> Product:
    """Compiled, so that the pass of a whole network can be traced; None where there is no oneDNN."""
    has_one_dnn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not (has_one_dnn and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        return None

    def by_one_dnn(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        result: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
        return result

    return torch.jit.script(by_one_dnn)
