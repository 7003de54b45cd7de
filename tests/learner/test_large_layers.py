"""The layers beside PyTorch's own, with the same weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from onibus.learner.large_layers import LargeLinear, ManyLookups


def pair(bias: bool = True) -> tuple[LargeLinear, nn.Linear]:
    torch.manual_seed(0)
    ours, plain = LargeLinear(300, 40, bias=bias), nn.Linear(300, 40, bias=bias)
    plain.load_state_dict(ours.state_dict())
    return ours, plain


def gradients(layer: nn.Linear, rows: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(layer(rows).square().sum(), [rows, *layer.parameters()]))


@pytest.mark.parametrize("bias", [True, False])
def test_results_and_gradients_are_pytorchs(bias: bool) -> None:
    ours, plain = pair(bias)
    rows = torch.randn(1_000, 300, requires_grad=True)
    with torch.no_grad():
        torch.testing.assert_close(ours(rows), plain(rows), rtol=1e-4, atol=1e-5)
    for mine, theirs in zip(gradients(ours, rows), gradients(plain, rows), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-3)


@pytest.mark.filterwarnings("ignore:Input #0 requires gradient and is not a double precision")
def test_gradients_are_those_of_finite_differences() -> None:
    """In float32, so with a step and a tolerance to match."""
    ours, _ = pair()
    rows = torch.randn(3, 300, requires_grad=True)
    assert torch.autograd.gradcheck(ours, rows, eps=1e-2, atol=1e-2, rtol=1e-2)


def test_rows_that_need_no_gradient_get_none() -> None:
    ours, plain = pair()
    rows = torch.randn(8, 300)
    for layer in (ours, plain):
        layer(rows).sum().backward()
    assert rows.grad is None
    assert ours.weight.grad is not None
    torch.testing.assert_close(ours.weight.grad, plain.weight.grad)


@pytest.mark.parametrize(
    "rows",
    [
        torch.randn(2, 5, 300),
        torch.randn(300),
        torch.randn(0, 300),
        torch.randn(300, 7).t(),
        torch.randn(20, 300)[::2],
    ],
    ids=["three dimensions", "one", "no rows", "transposed", "every second"],
)
def test_rows_of_any_shape(rows: Tensor) -> None:
    ours, plain = pair()
    torch.testing.assert_close(ours(rows), plain(rows), rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(ours(rows), plain(rows), rtol=1e-4, atol=1e-5)


def test_other_precisions_are_pytorchs_own() -> None:
    ours, plain = pair()
    rows = torch.randn(8, 300)
    with torch.autocast("cpu", torch.bfloat16):
        assert ours(rows).dtype == torch.bfloat16
        assert torch.equal(ours(rows), plain(rows))
    assert torch.equal(ours.double()(rows.double()), plain.double()(rows.double()))


@pytest.mark.filterwarnings("ignore:`torch.jit.trace:DeprecationWarning")
def test_a_traced_pass_takes_the_newest_weights() -> None:
    ours, plain = pair()
    rows = torch.randn(8, 300)
    with torch.inference_mode():
        traced = torch.jit.trace(ours, (rows,), check_trace=False)  # type: ignore[no-untyped-call]
    for layer in (ours, plain):
        with torch.no_grad():
            layer.weight.fill_(0.5)
    with torch.inference_mode():
        torch.testing.assert_close(traced(rows), plain(rows), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_lookups_and_their_gradients_are_pytorchs(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    ours, plain = ManyLookups(200, 16), nn.Embedding(200, 16)
    plain.load_state_dict(ours.state_dict())
    which = torch.randint(0, 200, (64, 9, 9)).to(dtype)
    assert torch.equal(ours(which), plain(which.int()))
    weights = torch.randn(64, 9, 9, 16)
    for layer, integers in ((ours, which), (plain, which.int())):
        (layer(integers) * weights).sum().backward()
    assert ours.weight.grad is not None
    assert plain.weight.grad is not None
    torch.testing.assert_close(ours.weight.grad, plain.weight.grad)


def test_padding_is_not_learned() -> None:
    layer = ManyLookups(5, 3, padding_idx=0)
    layer(torch.tensor([0, 1])).sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.sum(1).tolist() == [0, 3, 0, 0, 0]


def test_a_lookup_past_the_end_is_an_error() -> None:
    with pytest.raises(IndexError):
        ManyLookups(5, 3)(torch.tensor([5]))
