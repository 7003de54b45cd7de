"""A recorded episode as frames: the screen, the caption and the reward of every step."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from producers.nethack.captions import CaptionTable, MessageListener
from producers.nethack.episodes import not_the_same, play_again
from producers.nethack.tasks import OBSERVATION_KEYS, make_task
from schemas.records import EpisodeFinished

_SCREEN_KEYS = ("tty_chars", "tty_colors")


@dataclass(frozen=True, slots=True)
class Frame:
    """What one step brought about.

    Attributes:
        step: 0 for the reset.
        characters: of the screen, uint8 (24, 80); ``colours`` int8 (24, 80), 0 to 15, negative in reverse.
        extrinsic: the task's reward.
        caption: what the game said because of the action, all of it; None for nothing.
        count: which time in the episode, from 1; 0 without a caption.
    """

    step: int
    characters: NDArray[np.uint8]
    colours: NDArray[np.int8]
    extrinsic: float
    caption: str | None
    count: int


def frames(record: EpisodeFinished) -> Iterator[Frame]:
    """Play an episode again from its seeds and actions, a frame a step, the reset's first.

    Raises:
        OnibusError: the task is unknown; or, at the end, what was observed is not what was recorded.
    """
    keys = (*OBSERVATION_KEYS, *_SCREEN_KEYS)
    env = make_task(record.task, max_episode_steps=record.max_episode_steps, observation_keys=keys)
    said, captions, counts = MessageListener(env).said, CaptionTable(), Counter[str]()
    try:
        checksum = 0
        for step, (observation, reward) in enumerate(play_again(record, env)):
            checksum = zlib.crc32(observation["blstats"], checksum)
            # What the game says by itself at the start is not an outcome.
            caption = captions.caption(said).text if said and step else None
            said.clear()
            if caption is not None:
                counts[caption] += 1
            screen, colours = (observation[key].copy() for key in _SCREEN_KEYS)
            yield Frame(step, screen, colours, reward, caption, counts[caption] if caption is not None else 0)
    finally:
        env.close()  # type: ignore[no-untyped-call]
    if checksum != record.checksum:
        raise not_the_same(record)
