"""Convolutions and a maximum over time of captions that are laid end to end: the same values, less work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from onibus.consumers.reward_models.sums_of_rows import sums_of_rows

_BYTES = 256


@dataclass(frozen=True, slots=True)
class _Places:
    """Where the pooled values of captions stand when they are laid end to end, m in all.

    Attributes:
        caption: int64 (m,), which caption a place belongs to.
        start: int64 (m,), the first byte that it sees, in that caption.
        ends: bool (m,), whether what later convolutions see from there reaches into the next caption.
    """

    caption: Tensor
    start: Tensor
    ends: Tensor


def largest_values(
    captions: Tensor, embedding: nn.Embedding, convolutions: Sequence[nn.Conv1d], pool: int
) -> Tensor:
    """Each channel's largest value anywhere in a caption: float32 (n, channels), on a CPU.

    That is of: embedding, first convolution, maximum of every ``pool`` places, and all other convolutions;
    a ReLU after each. Most captions are much shorter than the 256 bytes that they are filled up to, and one
    place that sees nothing but the zeros after a caption stands for all such. So a caption takes up no more
    places than that, and the next one begins after them.

    The first convolution, the largest, is a sum of rows of a table: there are 256 bytes only, and for each
    place in the kernel that is a product of the embedding and its weights.

    Args:
        captions: uint8 (n, length), n > 0; filled up with zeros.
    """
    first, *later = convolutions
    places = _places(captions, first.kernel_size[0], sum(c.kernel_size[0] - 1 for c in later), pool)
    looked_up = _looked_up(captions, places, _table(embedding, first), first.kernel_size[0], pool)
    assert first.bias is not None
    values = (looked_up.amax(dim=1) + first.bias).relu()
    for convolution in later:
        values = _convolved(values, convolution).relu()
    into = torch.where(places.ends, len(captions), places.caption)[: len(values), None]
    nothing = values.new_zeros(len(captions) + 1, values.shape[1])  # no value after a ReLU is below it
    return nothing.scatter_reduce(0, into.expand_as(values), values, "amax")[:-1]


def _convolved(values: Tensor, convolution: nn.Conv1d) -> Tensor:
    """A convolution of (m, channels) as a matrix product; oneDNN would make and keep a program for each m."""
    (kernel,), weights = convolution.kernel_size, convolution.weight.permute(2, 1, 0).flatten(0, 1)
    length = len(values) - kernel + 1
    beside = torch.cat([values[place : place + length] for place in range(kernel)], dim=1)
    assert convolution.bias is not None
    return torch.addmm(convolution.bias, beside, weights)


def _places(captions: Tensor, kernel: int, reach: int, pool: int) -> _Places:
    """``reach``: how many places after its own the later convolutions see from one."""
    most = (captions.shape[1] - kernel + 1) // pool
    with_bytes = (_used_bytes(captions) - 1) // pool + 1
    counts = (with_bytes + 1 + reach).clamp(max=most)
    caption = torch.repeat_interleave(torch.arange(len(captions)), counts)
    before = torch.repeat_interleave(torch.cumsum(counts, 0) - counts, counts)
    number = torch.arange(len(caption)) - before
    return _Places(caption, number * pool, number >= counts[caption] - reach)


def _used_bytes(captions: Tensor) -> Tensor:
    """How many bytes of each caption (n, length) come before the zeros that fill it up: int64 (n,)."""
    return ((captions != 0) * torch.arange(1, captions.shape[1] + 1)).amax(dim=1)


def _table(embedding: nn.Embedding, convolution: nn.Conv1d) -> Tensor:
    """What each byte adds at each place of the kernel: float32 (kernel * 256, channels)."""
    weights = convolution.weight.permute(1, 2, 0)  # embedding, kernel, channels
    added = embedding.weight @ weights.flatten(1)
    return added.reshape(_BYTES, -1, weights.shape[2]).transpose(0, 1).flatten(0, 1)


def _looked_up(captions: Tensor, places: _Places, table: Tensor, kernel: int, pool: int) -> Tensor:
    """The first convolution, without its bias: float32 (m, pool, channels)."""
    seen = torch.arange(pool)[:, None] + torch.arange(kernel)
    starts = places.caption * captions.shape[1] + places.start
    taken = captions.flatten().int()[starts[:, None, None] + seen]
    rows = (taken + torch.arange(kernel, dtype=torch.int32) * _BYTES).flatten()
    return sums_of_rows(table, rows, kernel).reshape(-1, pool, table.shape[1])
