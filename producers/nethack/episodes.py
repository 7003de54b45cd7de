"""Whole episodes as records, and the same episodes played again."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator
from typing import Any

import gymnasium as gym

from infra.errors import OnibusError
from producers.nethack.calendar import luck_at
from producers.nethack.endings import Ending
from producers.nethack.seeding import Seeds, reset_with_seeds
from producers.nethack.tasks import make_task
from schemas.ids import episode_key
from schemas.records import EpisodeFinished

LONGEST_EPISODE = 900_000
"""Steps up to which an episode is recorded: one byte each, in a record that must stay below 1 MiB."""


class EpisodeRecorder:
    """Seeds, actions and checksum of one episode as it is played (about 0.5 us a step)."""

    def __init__(self, seeds: Seeds, blstats: bytes) -> None:
        """Begin with the reset's observation: ``blstats`` are the bytes of its (27,) int64 statistics."""
        self._seeds = seeds
        self._started_at = time.time_ns() // 1000
        self._actions = bytearray()
        self._checksum = zlib.crc32(blstats)
        self._return = 0.0

    def record(self, action: int, reward: float, blstats: bytes) -> None:
        """Add one step: the action's index, its extrinsic reward, the statistics it led to."""
        if len(self._actions) < LONGEST_EPISODE:
            self._actions.append(action)
        self._checksum = zlib.crc32(blstats, self._checksum)
        self._return += reward

    def finish(
        self,
        ending: Ending,
        *,
        run: str,
        worker: int,
        environment: int,
        episode: int,
        task: str,
        max_episode_steps: int,
        steps: int,
        policy_version: int,
    ) -> EpisodeFinished | None:
        """The episode's record; None if it was longer than :data:`LONGEST_EPISODE`."""
        if steps > len(self._actions):
            return None
        return EpisodeFinished(
            run=run,
            worker=worker,
            environment=environment,
            episode=episode,
            task=task,
            seed_core=self._seeds.core,
            seed_disp=self._seeds.disp,
            seed_level=self._seeds.level,
            max_episode_steps=max_episode_steps,
            actions=bytes(self._actions),
            checksum=self._checksum,
            extrinsic_return=self._return,
            intrinsic_return=None,
            score=ending.score,
            depth=ending.depth,
            experience_level=ending.experience_level,
            gold=ending.gold,
            turns=ending.turns,
            steps=steps,
            end=ending.end,
            cause_of_death=ending.cause_of_death,
            policy_version=policy_version,
            started_at=self._started_at,
            finished_at=time.time_ns() // 1000,
        )


def verify(record: EpisodeFinished) -> None:
    """Play a recorded episode again and see that every observation was the same.

    Raises:
        OnibusError: it was not, with the likely reason; or the task is unknown.
    """
    if replay(record) != record.checksum:
        raise not_the_same(record)


def not_the_same(record: EpisodeFinished) -> OnibusError:
    """Why an episode may have gone another way when it was played again."""
    then, now = luck_at(record.started_at), luck_at(time.time_ns() // 1000)
    reason = (
        f"NetHack's luck follows the calendar, and it was recorded under {then}, played again under {now}; "
        "replay it on such a day"
        if then != now
        else "the record is damaged or comes from other versions; use the NLE and MiniHack that recorded it"
    )
    return OnibusError(f"episode {episode_key(record).decode()} is not the same when played again: {reason}")


def replay(record: EpisodeFinished) -> int:
    """Play a recorded episode again; the checksum of what was observed, as in :class:`EpisodeFinished`.

    Playing stops early if the game ends before the recorded actions do.

    Raises:
        OnibusError: the task is unknown.
    """
    env: Any = make_task(record.task, max_episode_steps=record.max_episode_steps)
    try:
        checksum = 0
        for observation, _reward in play_again(record, env):
            checksum = zlib.crc32(observation["blstats"], checksum)
        return checksum
    finally:
        env.close()


def play_again(record: EpisodeFinished, env: gym.Env[Any, Any]) -> Iterator[tuple[dict[str, Any], float]]:
    """Observation and reward of the reset (0), then of each recorded action; ``env`` is of its task."""
    seeds = Seeds(record.seed_core, record.seed_disp, record.seed_level)
    observation, _info = reset_with_seeds(env, seeds)
    yield observation, 0.0
    for action in record.actions:
        observation, reward, terminated, truncated, _info = env.step(action)
        yield observation, float(reward)
        if terminated or truncated:
            return
