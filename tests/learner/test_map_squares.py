"""The coarse squares of the map, against a computation field by field on real games."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from nle import nethack
from numpy.typing import NDArray

from onibus.learner.map_squares import COLUMNS, KINDS, ROWS, MapSquares, kind_of
from tests.producers.nethack.playing import environment, moments

OBJECTS = range(nethack.GLYPH_OBJ_OFF, nethack.GLYPH_CMAP_OFF)


def square_by_square(glyphs: NDArray[np.int16]) -> NDArray[np.float32]:
    found = np.zeros((ROWS, COLUMNS, len(KINDS)), np.float32)
    for (y, x), glyph in np.ndenumerate(glyphs):
        kind = kind_of(int(glyph)) if glyph < nethack.MAX_GLYPH else None
        if kind is not None:
            found[y // 3, x // 5, KINDS.index(kind)] = 1
    return found.reshape(-1)


def test_it_is_what_a_loop_over_the_fields_finds() -> None:
    env = environment("score", observation="medium", max_episode_steps=60)
    env.reset()
    maps = [moment.observation["glyphs"] for moment in moments(env)]
    env.close()
    maps.append(np.random.default_rng(0).integers(0, nethack.MAX_GLYPH + 1, (21, 79), dtype=np.int16))
    maps[-1][0, 0] = next(glyph for glyph in OBJECTS if kind_of(glyph) == "gold")
    layer = MapSquares()
    squares = layer.numbers[layer(torch.from_numpy(np.stack(maps))).int()].flatten(1)
    assert squares.shape == (len(maps), layer.size)
    np.testing.assert_array_equal(squares.numpy(), [square_by_square(glyphs) for glyphs in maps])
    seen = squares.view(len(maps), -1, len(KINDS)).amax(dim=(0, 1))
    assert seen.all(), "every kind is among what is compared"


@pytest.mark.parametrize(
    ("glyph", "kind"),
    [
        (nethack.GLYPH_CMAP_OFF + 0, None),  # stone
        (nethack.GLYPH_CMAP_OFF + 2, "wall"),
        (nethack.GLYPH_CMAP_OFF + 12, "door"),  # a doorway without a door
        (nethack.GLYPH_CMAP_OFF + 19, "floor"),
        (nethack.GLYPH_CMAP_OFF + 24, "way down"),
        (nethack.GLYPH_CMAP_OFF + 27, None),  # an altar
        (nethack.GLYPH_PET_OFF + 16, "pet"),
        (nethack.GLYPH_MON_OFF + 16, "monster"),
        (nethack.GLYPH_BODY_OFF + 16, "thing"),
        (nethack.MAX_GLYPH - 1, "thing"),  # the last statue
    ],
)
def test_kinds_of_known_glyphs(glyph: int, kind: str | None) -> None:
    assert kind_of(glyph) == kind


def test_gold_is_told_from_other_things() -> None:
    objects = [kind_of(glyph) for glyph in OBJECTS]
    assert objects.count("gold") == 1
    assert set(objects) == {"gold", "thing"}
