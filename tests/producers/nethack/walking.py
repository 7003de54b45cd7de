"""A player that explores a level until it sees the stairs down, and takes them."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from nle import nethack
from numpy.typing import NDArray

from onibus.producers.nethack.environment import NetHackEnvironment
from tests.producers.nethack.playing import Moment

_DIRECTIONS = {
    "N": (-1, 0), "S": (1, 0), "E": (0, 1), "W": (0, -1),
    "NE": (-1, 1), "NW": (-1, -1), "SE": (1, 1), "SW": (1, -1),
}  # fmt: skip
STAIRS_DOWN = nethack.GLYPH_CMAP_OFF + 24
_DOORS = {nethack.GLYPH_CMAP_OFF + cmap for cmap in (13, 14)}
_WALKABLE = _DOORS | {nethack.GLYPH_CMAP_OFF + cmap for cmap in (12, 19, 20, 21, 22, 23, 24)}
"""Doorways and open doors, floor of rooms and corridors, stairs (NetHack 3.6's ``defsym``)."""

Square = tuple[int, int]


def key_index(env: NetHackEnvironment, key: int) -> int:
    """Index of the action that presses ``key``."""
    return list(env.unwrapped.actions).index(key)  # type: ignore[attr-defined]


def take_the_stairs(env: NetHackEnvironment, games: int = 30, steps: int = 500) -> Moment:
    """The moment in which the player goes down stairs, in the first game in which it finds any.

    Raises:
        AssertionError: it found none in so many games.
    """
    for _ in range(games):
        env.reset()
        been: set[Square] = set()
        for step in range(1, steps + 1):
            direction = _way(env, been)
            if direction is None:
                break
            key = nethack.CompassDirection[direction] if direction else nethack.MiscDirection.DOWN
            moment = Moment(step, *env.step(key_index(env, key)))
            if not direction:
                return moment
            if moment.last:
                break
    raise AssertionError("no stairs were found")


def _way(env: NetHackEnvironment, been: set[Square]) -> str | None:
    """First direction of the way to the stairs, or to where more can be seen; "" on them, None for none."""
    game: Any = env.unwrapped
    seen: dict[str, NDArray[Any]] = dict(zip(game._observation_keys, game.last_observation, strict=False))
    if seen["internal"][4]:
        return ""
    glyphs = np.pad(seen["glyphs"], 1, constant_values=nethack.MAX_GLYPH)
    x, y = (int(n) + 1 for n in seen["blstats"][:2])
    been.add((y, x))
    first: dict[Square, str] = {(y, x): ""}
    queue, frontier = deque([(y, x)]), None
    while queue:
        here = queue.popleft()
        if glyphs[here] == STAIRS_DOWN:
            return first[here]
        blank = (glyphs[here[0] - 1 : here[0] + 2, here[1] - 1 : here[1] + 2] == nethack.GLYPH_CMAP_OFF).any()
        if frontier is None and here not in been and blank:
            frontier = first[here]
        for name, (dy, dx) in _DIRECTIONS.items():
            there = (here[0] + dy, here[1] + dx)
            through_a_door = dy and dx and _DOORS & {int(glyphs[here]), int(glyphs[there])}
            if there not in first and glyphs[there] in _WALKABLE and not through_a_door:
                first[there] = first[here] or name
                queue.append(there)
    return frontier
