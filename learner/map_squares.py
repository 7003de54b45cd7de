"""The whole map in few numbers: which kinds of things stand in each of its squares of 3 by 5 fields."""

from __future__ import annotations

import torch
from nle import nethack
from torch import Tensor, nn

KINDS = (
    "pet", "monster", "gold", "thing", "door", "floor", "corridor", "way up", "way down", "wall",
)  # fmt: skip
"""What the squares tell apart, a bit each; a thing is an object other than gold, a corpse or a statue."""

ROWS, COLUMNS = 7, 16
"""Squares of the map of 21 by 79 fields; the last column's have four fields in a row, not five."""

_HEIGHT, _WIDTH = nethack.DUNGEON_SHAPE
_TALL, _WIDE = _HEIGHT // ROWS, -(-_WIDTH // COLUMNS)

_OF_CMAP = {
    "wall": range(1, 12),
    "door": range(12, 17),  # doorways, open and closed doors
    "floor": (19, 20),
    "corridor": (21, 22),
    "way up": (23, 25),  # staircase, ladder
    "way down": (24, 26, 54, 55),  # staircase, ladder, hole, trap door
}
"""Symbols of the map by kind, as NetHack 3.6 numbers them (``defsym.h``)."""


class MapSquares(nn.Module):
    """Glyphs of the map, int16 (B, 21, 79), to int16 (B, 112): the kinds in each square, a bit each.

    It has no weights. About 2 us for each map on a CPU.

    Attributes:
        numbers: float32 (1024, 10), what a square's bits stand for: 1 for each kind that is there, else 0.
    """

    size = ROWS * COLUMNS * len(KINDS)
    """Of a map's numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.bits: Tensor
        self.numbers: Tensor
        self.register_buffer("bits", _bits_of_glyphs(), persistent=False)
        self.register_buffer("numbers", _numbers_of_bits(), persistent=False)

    def forward(self, glyphs: Tensor) -> Tensor:
        count = glyphs.shape[0]
        bits = self.bits.index_select(0, glyphs.reshape(-1).int()).view(count, _HEIGHT, _WIDTH)
        bits = nn.functional.pad(bits, (0, COLUMNS * _WIDE - _WIDTH))
        squares = _any(_any(bits.view(count, ROWS, _TALL, -1), 2).view(count, ROWS, COLUMNS, _WIDE), 3)
        return squares.view(count, -1)


def _any(bits: Tensor, dimension: int) -> Tensor:
    """Bits that are set anywhere along a dimension."""
    first, *others = bits.unbind(dimension)
    for other in others:
        first = first | other
    return first


def _bits_of_glyphs() -> Tensor:
    """By glyph, up to ``MAX_GLYPH`` for "outside the map": the bit of its kind, or 0."""
    kinds = [kind_of(glyph) for glyph in range(int(nethack.MAX_GLYPH))]
    bits = [0 if kind is None else 1 << KINDS.index(kind) for kind in kinds]
    return torch.tensor([*bits, 0], dtype=torch.int16)


def _numbers_of_bits() -> Tensor:
    squares = torch.arange(1 << len(KINDS))
    return ((squares[:, None] >> torch.arange(len(KINDS))) & 1).float()


def kind_of(glyph: int) -> str | None:
    """The kind of a glyph, one of :data:`KINDS`; None for stone, furniture, traps and effects."""
    if nethack.glyph_is_pet(glyph):
        return "pet"
    if (
        nethack.glyph_is_monster(glyph)
        or nethack.glyph_is_invisible(glyph)
        or nethack.glyph_is_warning(glyph)
    ):
        return "monster"
    if nethack.glyph_is_body(glyph) or nethack.glyph_is_statue(glyph):
        return "thing"
    if nethack.glyph_is_object(glyph):
        is_gold = ord(nethack.objclass(nethack.glyph_to_obj(glyph)).oc_class) == nethack.COIN_CLASS
        return "gold" if is_gold else "thing"
    if nethack.glyph_is_cmap(glyph):
        symbol = nethack.glyph_to_cmap(glyph)
        return next((kind for kind, symbols in _OF_CMAP.items() if symbol in symbols), None)
    return None
