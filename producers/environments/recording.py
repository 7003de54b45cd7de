"""Episodes of registered tasks as records: seed, actions, and checksums of what came of them."""

from __future__ import annotations

import time
import zlib
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from onibus.producers.environments.spaces import CAPTION, ActionArrays
from onibus.producers.publishing.caption import with_caption
from onibus.schemas.records import EpisodeFinished

LONGEST_RECORD = 900_000
"""Bytes of actions up to which an episode is recorded: a record must stay below 1 MiB."""
TERMINATED, TRUNCATED = "terminated", "truncated"
"""How an episode ended: by itself, or cut off."""


def observed(checksum: int, observation: Mapping[str, NDArray[Any]]) -> int:
    """A checksum of observations, and one more: CRC-32 chained over all arrays but the caption."""
    for name, array in observation.items():
        if name != CAPTION:
            checksum = zlib.crc32(array.tobytes(), checksum)
    return checksum


class TaskRecorder:
    """One episode as it is played; its memory is bounded by :data:`LONGEST_RECORD`."""

    def __init__(self, seed: int, actions: ActionArrays, observation: Mapping[str, NDArray[Any]]) -> None:
        """Begin with the reset's observation."""
        self._seed, self._formats = seed, actions
        self._started_at = time.time_ns() // 1000
        self._actions = bytearray()
        self._fits = True
        self._checksum = observed(0, observation)
        self._heard = 0
        self._return = 0.0

    def record(self, action: Any, reward: float, observation: Mapping[str, NDArray[Any]]) -> None:
        """Add one step: the policy's action, the task's reward, what it led to."""
        if self._fits:
            self._actions += self._formats.recorded(action)
            self._fits = len(self._actions) <= LONGEST_RECORD
        self._checksum = observed(self._checksum, observation)
        self._return += reward

    def hear(self, step: int, caption_id: bytes) -> None:
        """Add the caption (16-byte id) of a step, counted from 1."""
        self._heard = with_caption(self._heard, step, caption_id)

    def difference(self, record: EpisodeFinished) -> str | None:
        """Which of its checksums a record of the same episode has otherwise: observations or captions."""
        if self._checksum != record.checksum:
            return "observations"
        return None if record.caption_checksum in (None, self._heard) else "captions"

    def finish(
        self,
        *,
        run: str,
        worker: int,
        environment: int,
        episode: int,
        task: str,
        plugin: str,
        max_episode_steps: int,
        steps: int,
        end: str,
        captions: bool,
        statistics: Mapping[str, float],
        policy_version: int,
        captioner: str,
    ) -> EpisodeFinished | None:
        """The episode's record; None if it was too long. What only NetHack has is 0 or empty in it."""
        if not self._fits:
            return None
        success = statistics.get("success")
        return EpisodeFinished(
            run=run,
            worker=worker,
            environment=environment,
            episode=episode,
            task=task,
            seed_core=self._seed,
            seed_disp=0,
            seed_level=0,
            max_episode_steps=max_episode_steps,
            actions=bytes(self._actions),
            checksum=self._checksum,
            extrinsic_return=self._return,
            intrinsic_return=None,
            score=0.0,
            depth=0,
            experience_level=0,
            gold=0,
            turns=0,
            steps=steps,
            end=end,
            cause_of_death="",
            policy_version=policy_version,
            started_at=self._started_at,
            finished_at=time.time_ns() // 1000,
            nle_version="",
            caption_checksum=self._heard if captions else None,
            success=None if success is None else bool(success),
            plugin=plugin,
            action_format=self._formats.format,
            statistics=dict(statistics),
            captioner=captioner,
        )
