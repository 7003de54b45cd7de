"""Sums of a table's rows, beside an indexed sum in double precision."""

from __future__ import annotations

import pytest
import torch

from onibus.consumers.reward_models.sums_of_rows import MOST_ROWS, sums_of_rows


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize(("height", "count", "sums"), [(50, 3, 40), (1, 1, 1), (MOST_ROWS, 7, 300)])
def test_sums_and_gradients_are_those_of_an_indexed_sum(
    dtype: torch.dtype, height: int, count: int, sums: int
) -> None:
    torch.manual_seed(0)
    table = torch.randn(height, 16, requires_grad=True)
    rows = torch.randint(height, (sums * count,)).to(dtype)
    rows[-1] = height - 1
    weights = torch.randn(sums, 16)
    made = sums_of_rows(table, rows, count)
    expected = table.double()[rows.long()].view(sums, count, 16).sum(1)
    torch.testing.assert_close(made.double(), expected, rtol=0, atol=1e-5)
    (mine,) = torch.autograd.grad((made * weights).sum(), [table])
    (theirs,) = torch.autograd.grad((expected * weights).sum(), [table])
    torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-5)
    assert not mine[~torch.isin(torch.arange(height), rows)].any()


def test_a_gradient_that_is_an_expanded_number_is_added_up() -> None:
    table = torch.zeros(4, 8, requires_grad=True)
    sums_of_rows(table, torch.tensor([0, 1, 1, 3]), 2).sum().backward()  # type: ignore[no-untyped-call]
    assert table.grad is not None
    assert table.grad.sum(1).tolist() == [8, 16, 0, 8]


def test_a_row_that_is_not_there_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="takes value 4 which is not in the valid range"):
        sums_of_rows(torch.zeros(4, 8), torch.tensor([0, 4]), 2)
