"""Captions from random play: what a judge that is trained here learns on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onibus.infra.process.shutdown import keep_hang_ups
from onibus.producers.nethack.messages import CaptionTable, MessageListener
from onibus.producers.nethack.seeding import episode_seeds, reset_with_seeds
from onibus.producers.nethack.tasks import make_task


def random_captions(tasks: Sequence[str], steps: int, seed: int) -> list[str]:
    """The different captions that random actions bring about, sorted; the same for the same arguments.

    Args:
        tasks: names of tasks, see :mod:`onibus.producers.nethack.tasks`.
        steps: steps in each of them.

    Raises:
        OnibusError: no such task.
    """
    found: set[str] = set()
    for number, task in enumerate(tasks):
        found |= _captions_of(task, steps, seed + number)
    return sorted(found)


def _captions_of(task: str, steps: int, seed: int) -> set[str]:
    env = make_task(task)
    said, table = MessageListener(env).said, CaptionTable()
    rng = np.random.default_rng(seed)
    actions = rng.integers(env.action_space.n, size=steps)  # type: ignore[attr-defined]
    found: set[str] = set()
    episode, over = 0, True
    try:
        for action in actions:
            if over:
                reset_with_seeds(env, episode_seeds(seed, 0, 0, episode))
                episode += 1
                said.clear()  # what the game says by itself at the start
            _, _, terminated, truncated, _ = env.step(int(action))
            over = terminated or truncated
            caption = table.caption(said)
            said.clear()
            if caption is not None:
                found.add(caption.text)
    finally:
        env.close()  # type: ignore[no-untyped-call]
        keep_hang_ups()
    return found
