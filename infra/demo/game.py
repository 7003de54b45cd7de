"""One game of a running demo, as the live view shows it: its screen, and what was said of its captions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

LEAST_SHOWN = 0.005
"""Rewards that are nearer to 0 than this are not shown."""


class SaidOfCaption(NamedTuple):
    """A caption, its verdict (empty: none is known) and the reward that it earned."""

    text: str
    verdict: str
    reward: float


@dataclass(frozen=True, slots=True)
class GameMoment:
    """A game at one moment.

    Attributes:
        title: which game, and how far it is.
        characters: of its screen, uint8 (24, 80). colours: int8 (24, 80), as NLE's ``tty_colors``.
        cursor: row and column of the player.
        captions: the latest of this game and those before, the newest last.
    """

    title: str
    characters: NDArray[np.uint8]
    colours: NDArray[np.int8]
    cursor: tuple[int, int]
    captions: tuple[SaidOfCaption, ...]


class GameFeed(Protocol):
    """Games of the demo's run, one after the other."""

    def start(self) -> None:
        """Begin to look for games, in a thread."""

    def stop(self) -> None:
        """End looking for games."""

    def moment(self) -> GameMoment | None:
        """What is to be seen now; None until a game has ended."""
