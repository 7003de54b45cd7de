"""What an episode has seen so far: squares of the map, and the greatest levels."""

from __future__ import annotations

import numpy as np
from nle import nethack
from numpy.typing import NDArray

_SIZE = np.dtype(np.int64).itemsize
_LEVEL = slice(nethack.NLE_BL_DNUM * _SIZE, (nethack.NLE_BL_DLEVEL + 1) * _SIZE)
_EXPERIENCE_LEVEL = slice(nethack.NLE_BL_XP * _SIZE, (nethack.NLE_BL_XP + 1) * _SIZE)
_BLANK = np.int16(nethack.GLYPH_CMAP_OFF)
"""Blank stone: what the map shows of what was never seen."""

assert nethack.NLE_BL_DLEVEL == nethack.NLE_BL_DNUM + 1  # one slice holds both


class Explored:
    """Squares that ever showed something else than blank stone, and the greatest levels.

    Two operations on a map a step, or on the maps of many games at once (:meth:`share`, :func:`add_shown`).
    What was seen counts once and for good, so going blind, being swallowed or forgetting a map takes nothing
    away; NLE's scout task counts what is on the map now. A map of 1.6 KiB is kept for each level, of which
    NetHack has less than a hundred.

    Attributes:
        depth: greatest depth in the dungeon at the end of a step.
        experience_level: the greatest likewise.
    """

    def __init__(self) -> None:
        self._shown = np.zeros(nethack.DUNGEON_SHAPE, np.bool_)
        self._shared: NDArray[np.bool_] | None = None
        self.begin()

    def begin(self) -> None:
        """Forget everything: a new episode."""
        self.depth = self.experience_level = 0
        self._levels: dict[bytes, NDArray[np.bool_]] = {}
        self._level = self._experience = b""

    def share(self, seen: NDArray[np.bool_]) -> None:
        """Keep what was seen of the level that the player is on in ``seen``, (21, 79) bool.

        Others may add to it what the steps show: those are then given to :meth:`note`, not to :meth:`look`.
        """
        seen[:] = self._levels[self._level]
        self._levels[self._level] = self._seen = self._shared = seen

    def look(self, glyphs: NDArray[np.int16], blstats: bytes) -> None:
        """Add what a step showed.

        Args:
            glyphs: (21, 79) int16, the map.
            blstats: bytes of its (27,) int64 statistics.
        """
        self.note(blstats)
        add_shown(glyphs, self._seen, self._shown)

    def note(self, blstats: bytes) -> None:
        """Add what a step showed, but for the squares."""
        if blstats[_LEVEL] != self._level or blstats[_EXPERIENCE_LEVEL] != self._experience:
            self._enter(blstats)

    def scout(self) -> int:
        """Squares seen, over all levels."""
        return sum(int(np.count_nonzero(seen)) for seen in self._levels.values())

    def _enter(self, blstats: bytes) -> None:
        before, self._level = self._level, blstats[_LEVEL]
        self._experience = blstats[_EXPERIENCE_LEVEL]
        if self._level != before:
            self._change_levels(before)
        statistics = np.frombuffer(blstats, np.int64)
        self.depth = max(self.depth, int(statistics[nethack.NLE_BL_DEPTH]))
        self.experience_level = max(self.experience_level, int(statistics[nethack.NLE_BL_XP]))

    def _change_levels(self, before: bytes) -> None:
        known = self._levels.get(self._level)
        if self._shared is None:
            self._seen = np.zeros(nethack.DUNGEON_SHAPE, np.bool_) if known is None else known
        else:
            if before:
                self._levels[before] = self._shared.copy()
            self._shared[:] = False if known is None else known
            self._seen = self._shared
        self._levels[self._level] = self._seen


def add_shown(maps: NDArray[np.int16], seen: NDArray[np.bool_], room: NDArray[np.bool_]) -> None:
    """Add to ``seen`` the squares that maps show; of one game, (21, 79), or of many, (N, 21, 79).

    Args:
        maps: glyphs.
        room: of the shape of ``seen``, for the work.
    """
    np.not_equal(maps, _BLANK, room)
    np.logical_or(seen, room, seen)
