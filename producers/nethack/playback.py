"""A recorded episode as frames: the screen, the caption and the reward of every step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onibus.producers.nethack.episodes import play_again
from onibus.producers.nethack.tasks import OBSERVATION_KEYS
from onibus.schemas.records import EpisodeFinished

_SCREEN_KEYS = ("tty_chars", "tty_colors", "tty_cursor")


@dataclass(frozen=True, slots=True)
class Frame:
    """What one step brought about.

    Attributes:
        step: 0 for the reset.
        characters: of the screen, uint8 (24, 80); ``colours`` int8 (24, 80), 0 to 15, negative in reverse.
        extrinsic: the task's reward.
        caption: what the game said because of the action, all of it; None for nothing.
        count: how often it has come up in the episode, from 1; 0 without a caption.
        cursor: row and column of the player on the screen, as a rule.
    """

    step: int
    characters: NDArray[np.uint8]
    colours: NDArray[np.int8]
    extrinsic: float
    caption: str | None
    count: int
    cursor: tuple[int, int] = (0, 0)


def frames(record: EpisodeFinished) -> Iterator[Frame]:
    """Play an episode again from its seeds and actions, a frame a step, the reset's first.

    Raises:
        OnibusError: the task is unknown; or, at the end, what was observed is not what was recorded.
    """
    counts = Counter[str]()
    for step, moment in enumerate(play_again(record, (*OBSERVATION_KEYS, *_SCREEN_KEYS))):
        caption = None if moment.caption is None else moment.caption.text
        if caption is not None:
            counts[caption] += 1
        screen, colours, cursor = (moment.observation[key].copy() for key in _SCREEN_KEYS)
        count = counts[caption] if caption is not None else 0
        yield Frame(step, screen, colours, moment.extrinsic, caption, count, tuple(cursor.tolist()))
