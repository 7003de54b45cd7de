"""A linear layer over looked-up rows, beside PyTorch's two layers with the same weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from onibus.learner.linear_of_lookups import _lookups, linear_of_lookups

KINDS, FEATURES, OUT = 3_000, 16, 24


def layers(places: int, bias: bool = True) -> tuple[nn.Embedding, nn.Linear]:
    torch.manual_seed(0)
    return nn.Embedding(KINDS, FEATURES), nn.Linear(places * FEATURES, OUT, bias=bias)


def crops(rows: int = 512, places: int = 81, common: int = 5, rare: float = 0.02) -> Tensor:
    """What a map shows: mostly a few integers, and now and then any other."""
    torch.manual_seed(1)
    which = torch.randint(2_300, 2_300 + common, (rows, places))
    return torch.where(torch.rand(rows, places) < rare, torch.randint(KINDS, (rows, places)), which)


def gradients(made: Tensor, *layers: nn.Module) -> list[Tensor]:
    """Of a sum in which each number counts differently."""
    torch.manual_seed(2)
    weights = torch.randn(made.shape).to(made.dtype)
    parameters = [parameter for layer in layers for parameter in layer.parameters()]
    return list(torch.autograd.grad((made * weights).sum(), parameters))


def assert_as_pytorchs(which: Tensor, embedding: nn.Embedding, linear: nn.Linear) -> None:
    """Against PyTorch's layers in double precision, for gradients add up tens of thousands of numbers."""
    made = linear_of_lookups(which, embedding.weight, linear)
    ours = [made.detach(), *gradients(made, embedding, linear)]
    exact = linear.double()(embedding.double()(which.long()).flatten(1))
    for one, other in zip(ours, [exact.detach(), *gradients(exact, embedding, linear)], strict=True):
        assert one.shape == other.shape
        if one.numel():
            assert float((one - other).abs().max()) <= 1e-5 * max(1.0, float(other.abs().max()))


@pytest.mark.parametrize("dtype", [torch.int16, torch.int32, torch.int64])
@pytest.mark.parametrize("bias", [True, False])
def test_results_and_gradients_are_pytorchs(dtype: torch.dtype, bias: bool) -> None:
    which = crops().to(dtype).view(-1, 9, 9)
    before = which.clone()
    assert _lookups(which, KINDS) is not None
    assert_as_pytorchs(which, *layers(81, bias))
    assert torch.equal(which, before)


@pytest.mark.parametrize("places", [1, 2, 81])
@pytest.mark.parametrize("common", [1, 20])
def test_of_any_number_of_places_and_integers(places: int, common: int) -> None:
    which = crops(300, places, common)
    assert _lookups(which, KINDS) is not None
    assert_as_pytorchs(which, *layers(places))


def test_the_last_and_the_first_integer_are_its_own() -> None:
    which = torch.tensor([0, KINDS - 1]).repeat(300, 81)[:, :81]
    assert _lookups(which, KINDS) is not None
    assert_as_pytorchs(which, *layers(81))


@pytest.mark.parametrize(
    "which",
    [
        crops(8),
        torch.randint(KINDS, (512, 81)),
        crops(512, common=200),
        crops(0),
        torch.randint(200, (900, 400)),
    ],
    ids=["few rows", "nothing recurs", "little recurs", "no rows", "more than 16 bits number"],
)
def test_a_batch_in_which_little_recurs_is_pytorchs(which: Tensor) -> None:
    assert len(which) < 256 or _lookups(which, KINDS) is None
    assert_as_pytorchs(which, *layers(which.shape[1]))


def test_rows_that_do_not_lie_next_to_each_other() -> None:
    which = crops(81, 600, common=4, rare=0).t()
    assert not which.is_contiguous()
    assert _lookups(which, KINDS) is not None
    assert_as_pytorchs(which, *layers(81))


@pytest.mark.parametrize("outside", [KINDS, -1])
def test_an_integer_outside_the_embedding_is_an_error(outside: int) -> None:
    which = crops()
    which[5, 5] = outside
    with pytest.raises((IndexError, RuntimeError), match=r"out of (range|bounds)"):
        linear_of_lookups(which, layers(81)[0].weight, layers(81)[1])


def test_weights_that_are_not_learned_get_no_gradient() -> None:
    embedding, linear = layers(81)
    embedding.requires_grad_(False)
    linear_of_lookups(crops(), embedding.weight, linear).sum().backward()  # type: ignore[no-untyped-call]
    assert embedding.weight.grad is None
    assert linear.weight.grad is not None


def test_other_precisions_are_pytorchs_own() -> None:
    which, (embedding, linear) = crops(), layers(81)
    plain = linear(embedding(which).flatten(1))
    with torch.autocast("cpu", torch.bfloat16):
        assert linear_of_lookups(which, embedding.weight, linear).dtype == torch.bfloat16
    doubles = linear_of_lookups(which, embedding.double().weight, linear.double())
    assert doubles.dtype == torch.float64
    torch.testing.assert_close(doubles.float(), plain, rtol=1e-4, atol=1e-4)


def test_a_row_that_the_batch_does_not_have_takes_no_part() -> None:
    which, (embedding, linear) = crops(common=3, rare=0), layers(81)
    which[0, 0] = 2_400  # so that other places have unused rows
    with torch.no_grad():
        embedding.weight[torch.isin(torch.arange(KINDS), which, invert=True)] = torch.nan
    assert _lookups(which, KINDS) is not None
    assert_as_pytorchs(which, embedding, linear)
