"""NetHack's screen as coloured text for a terminal, whole or the part in which something is to be seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from rich.text import Text

_BLACK, _BLUE = 0, 4  # NetHack shows black as blue: most terminals are black
_BLANK = 32
_FIRST_ROW, _END_ROW = 1, 22
"""Rows of the map; the message stands above it, the status below."""


def screen_lines(characters: NDArray[np.uint8], colours: NDArray[np.int8]) -> list[Text]:
    """Each row of a screen, or of a part of one: ``characters`` and ``colours`` are (rows, columns)."""
    return [
        Text.assemble(*_coloured(row, tints), no_wrap=True, overflow="crop")
        for row, tints in zip(characters.tolist(), colours.tolist(), strict=True)
    ]


def map_window(
    characters: NDArray[np.uint8], cursor: tuple[int, int], rows: int, columns: int
) -> tuple[slice, slice]:
    """The part of the map, at most ``rows`` by ``columns``, that holds all that is known of it.

    Where that is larger, the part around the player.

    Args:
        characters: the screen, uint8 (24, 80).
        cursor: row and column of the player.
    """
    seen = characters[_FIRST_ROW:_END_ROW] != _BLANK
    return (
        _stretch(seen.any(axis=1), cursor[0] - _FIRST_ROW, rows, _FIRST_ROW),
        _stretch(seen.any(axis=0), cursor[1], columns, 0),
    )


def _stretch(seen: NDArray[np.bool_], player: int, most: int, offset: int) -> slice:
    """``most`` places in a row, or all there are: around what is seen if it fits, else around the player."""
    places = np.flatnonzero(seen)
    first, last = (int(places[0]), int(places[-1])) if places.size else (player, player)
    middle = (first + last) // 2 if last - first < most else player
    start = max(0, min(middle - most // 2, len(seen) - most))
    return slice(offset + start, offset + min(start + most, len(seen)))


def _coloured(characters: Sequence[int], colours: Sequence[int]) -> Iterator[tuple[str, str]]:
    """Stretches of one colour, each with its style; blanks belong to the stretch that they follow."""
    text, tint = "", _BLACK
    for code, colour in zip(characters, colours, strict=True):
        shown = chr(code) if chr(code).isprintable() else " "
        new = tint if shown == " " else abs(colour) % 16 or _BLUE
        if new != tint and text:
            yield text, _style(tint)
            text = ""
        text, tint = text + shown, new
    yield text, _style(tint)


def _style(colour: int) -> str:
    return "" if colour == _BLACK else f"color({colour})"
