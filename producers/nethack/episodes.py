"""Whole episodes as records, and the same episodes played again."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, cast

import nle

from onibus.infra.errors import OnibusError
from onibus.infra.process.shutdown import keep_hang_ups
from onibus.producers.nethack.captioners import recorded_captioner
from onibus.producers.nethack.endings import Ending
from onibus.producers.nethack.messages import CaptionTable, MessageListener
from onibus.producers.nethack.seeding import Seeds, reset_with_seeds
from onibus.producers.nethack.task_names import TASK_VERSION, Actions, name_of_version
from onibus.producers.nethack.tasks import OBSERVATION_KEYS, is_minihack, make_task
from onibus.producers.publishing.caption import Caption, with_caption
from onibus.schemas.ids import episode_key
from onibus.schemas.records import EpisodeFinished

LONGEST_EPISODE = 900_000
"""Steps up to which an episode is recorded: one byte each, in a record that must stay below 1 MiB."""


class EpisodeRecorder:
    """Seeds, actions and checksums of one episode as it is played (about 0.5 us a step)."""

    def __init__(self, seeds: Seeds, blstats: bytes, *, captions: bool = True) -> None:
        """Begin with the reset's observation.

        Args:
            blstats: bytes of its (27,) int64 statistics.
            captions: whether captions are listened to.
        """
        self._seeds = seeds
        self._started_at = time.time_ns() // 1000
        self._actions = bytearray()
        self._checksum = zlib.crc32(blstats)
        self._caption_checksum = 0 if captions else None
        self._return = 0.0

    def record(self, action: int, reward: float, blstats: bytes) -> None:
        """Add one step: the action's index, its extrinsic reward, the statistics it led to."""
        if len(self._actions) < LONGEST_EPISODE:
            self._actions.append(action)
        self._checksum = zlib.crc32(blstats, self._checksum)
        self._return += reward

    def hear(self, step: int, caption_id: bytes) -> None:
        """Add the caption (16-byte id) of a step, counted from 1."""
        if self._caption_checksum is not None:
            self._caption_checksum = with_caption(self._caption_checksum, step, caption_id)

    def finish(
        self,
        ending: Ending,
        *,
        run: str,
        worker: int,
        environment: int,
        episode: int,
        task: str,
        action_set: str,
        character: str,
        kills: int | None,
        max_episode_steps: int,
        steps: int,
        policy_version: int,
        captioner: str,
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
            seed_level=self._seeds.level or self._seeds.dungeon,
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
            nle_version=nle.__version__,
            caption_checksum=self._caption_checksum,
            task_version=TASK_VERSION,
            action_set=action_set,
            character=character,
            success=ending.success,
            scout=ending.scout,
            kills=kills,
            progression=ending.progression,
            captioner=captioner,
        )


def verify(record: EpisodeFinished) -> None:
    """Play a recorded episode again and see that every observation and caption was the same.

    Raises:
        OnibusError: it was not, with the likely reason; or the task is unknown.
    """
    for _ in play_again(record):
        pass


class Moment(NamedTuple):
    """What the reset or a step of an episode brought about."""

    observation: dict[str, Any]
    """NLE's raw observations, views that the next step writes over."""
    extrinsic: float
    caption: Caption | None


def play_again(
    record: EpisodeFinished, observation_keys: Sequence[str] = OBSERVATION_KEYS
) -> Iterator[Moment]:
    """Play a recorded episode again: the moment of the reset, then one for each recorded action.

    Args:
        observation_keys: NLE's names of the observations to give, "blstats" among them.

    Raises:
        OnibusError: the task is unknown; or, at the end, what was observed is not what was recorded.
    """
    if record.plugin:
        raise OnibusError(
            f"episode {episode_key(record).decode()} is of a task that {record.plugin} registered, which has "
            "no screen; use onibus replay episode"
        )
    by_clock = not record.nle_version
    env: Any = make_task(
        name_of_version(record.task, record.task_version),
        max_episode_steps=record.max_episode_steps,
        observation_keys=observation_keys,
        by_clock=by_clock,
        actions=cast(Actions | None, record.action_set or None),
        character=record.character or None,
    )
    said, captions = MessageListener(env).said, CaptionTable()
    captioner = recorded_captioner(record.captioner)
    heard = 0
    try:
        observation, _info = reset_with_seeds(env, _seeds(record), by_clock=by_clock)
        said.clear()  # what the game says by itself at the start is not an outcome
        before = observation["blstats"].tobytes()
        checksum = zlib.crc32(before)
        yield Moment(observation, 0.0, None)
        for step, action in enumerate(record.actions, 1):
            outcome = env.step(action)
            observation, reward, terminated, truncated, _info = outcome
            checksum = zlib.crc32(observation["blstats"], checksum)
            message = captions.caption(said)
            said.clear()
            caption: Caption | None = message
            if captioner is not None:
                caption = captioner.caption(message, before, action, outcome, env.unwrapped)
            before = observation["blstats"].tobytes()
            if caption is not None:
                heard = with_caption(heard, step, caption.id)
            yield Moment(observation, float(reward), caption)
            if terminated or truncated:
                break
    finally:
        env.close()
        keep_hang_ups()
    if checksum != record.checksum or record.caption_checksum not in (None, heard):
        raise _not_the_same(record, "captions" if checksum == record.checksum else "status lines")


def _seeds(record: EpisodeFinished) -> Seeds:
    seeds = Seeds(record.seed_core, record.seed_disp, record.seed_level)
    return seeds if is_minihack(record.task) else seeds._replace(level=0, dungeon=record.seed_level)


def other_version(record: EpisodeFinished) -> str | None:
    """What to say if another NLE, or another version of its captioner, recorded an episode than is here.

    None if they were the same.

    Raises:
        OnibusError: the captioner is not here.
    """
    if record.nle_version == nle.__version__:
        captioner = recorded_captioner(record.captioner)
        if captioner is None or captioner.name == record.captioner:
            return None
        return (
            f"recorded with the captioner {record.captioner}, played again with {captioner.name}: it may "
            "find other captions"
        )
    recorded = f"NLE {record.nle_version}" if record.nle_version else "an NLE before 1.3"
    return f"recorded under {recorded}, played again under NLE {nle.__version__}: it may be another game"


def _not_the_same(record: EpisodeFinished, what: str) -> OnibusError:
    """Why an episode may have gone another way when it was played again."""
    if not record.nle_version:
        began = time.strftime("%Y-%m-%d %H:%M", time.localtime(record.started_at / 1e6))
        reason = (
            f"it began at {began}, when NetHack's luck still followed the clock; replay it at such a "
            "time of the day and the moon, or record a new one"
        )
    else:
        reason = other_version(record) or (
            "the record is damaged or comes from other versions; use the MiniHack that recorded it"
        )
    return OnibusError(
        f"episode {episode_key(record).decode()} is not the same when played again ({what} differ): {reason}"
    )
