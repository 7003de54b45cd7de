"""Recorded episodes of registered tasks, played again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from onibus.infra.errors import OnibusError
from onibus.producers.environments.caption_wrapper import CaptionWrapper
from onibus.producers.environments.recording import TaskRecorder
from onibus.producers.environments.spaces import CAPTION, action_arrays
from onibus.producers.environments.tasks import RegisteredTask, registered_task
from onibus.producers.publishing.caption_texts import CaptionTexts, Transition, caption_in_info
from onibus.schemas.ids import episode_key
from onibus.schemas.records import EpisodeFinished


class Step(NamedTuple):
    """One step of an episode, from 1.

    Attributes:
        extrinsic: the task's reward.
        caption: what it brought about; None for nothing.
        times: how often the episode had the caption so far; 0 without one.
    """

    number: int
    extrinsic: float
    caption: str | None
    times: int


def task_of(record: EpisodeFinished) -> RegisteredTask:
    """The task of a record that names a plug-in.

    Raises:
        OnibusError: it is not registered here.
    """
    found = registered_task(record.task)
    if found is None:
        module = record.plugin.partition(" ")[0]
        raise OnibusError(
            f"episode {episode_key(record).decode()} is of task {record.task}, which {record.plugin} "
            f"registered; add --import {module} to play it again"
        )
    return found


def other_plugin(record: EpisodeFinished) -> str | None:
    """What to say if another version of the plug-in recorded an episode than is here; None if it was this.

    Raises:
        OnibusError: as :func:`task_of`.
    """
    here = task_of(record).plugin
    if here == record.plugin:
        return None
    return f"recorded with {record.plugin}, played again with {here}: it may be another game"


def play_again(record: EpisodeFinished) -> Iterator[Step]:
    """Play an episode of a registered task again, a step at a time.

    Raises:
        OnibusError: the task is not registered here; or, at the end, what came about is not what was
            recorded.
    """
    task = task_of(record)
    heard: list[str | None] = []
    captioner = task.captioner or caption_in_info

    def listening(step: Transition) -> str | None:
        heard.append(captioner(step))
        return heard[-1]

    made = task.make()
    actions = action_arrays(made.action_space)
    environment = CaptionWrapper(
        made, listening, task=task, max_episode_steps=record.max_episode_steps or None
    )
    texts = CaptionTexts()
    try:
        observation, _ = environment.begin(record.seed_core)
        again = TaskRecorder(record.seed_core, actions, observation)
        for number, action in enumerate(actions.read(record.actions), 1):
            observation, reward, terminated, truncated, _ = environment.step(action)
            again.record(action, reward, observation)
            caption = texts.caption(heard.pop() or "")
            if caption is not None:
                again.hear(number, caption.id)
            yield Step(
                number, reward, None if caption is None else caption.text, int(observation[CAPTION][1])
            )
            if terminated or truncated:
                break
    finally:
        environment.close()
    what = again.difference(record)
    if what:
        reason = other_plugin(record) or (
            "does its reset(seed=…) seed everything, and is it the same version of its libraries?"
        )
        key = episode_key(record).decode()
        raise OnibusError(f"episode {key} is not the same when played again ({what} differ): {reason}")
