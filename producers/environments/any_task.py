"""The environment of a task, whether it is NetHack's, MiniHack's or one that the user registered."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Literal

from onibus.infra.errors import OnibusError
from onibus.producers.environments.caption_wrapper import CaptionWrapper
from onibus.producers.environments.tasks import import_tasks, registered_names, registered_task
from onibus.producers.nethack.environment import NetHackEnvironment
from onibus.producers.nethack.task_names import Actions
from onibus.producers.nethack.tasks import check_played
from onibus.producers.publishing.caption_publisher import RolloutBus

AnyEnvironment = NetHackEnvironment | CaptionWrapper


def check_task(name: str, actions: str | None, character: str | None, imports: Iterable[str]) -> None:
    """Do nothing if a task can be played with a set of actions and a character, or several.

    Args:
        name: of the task.
        actions: a set of actions, or None.
        character: who plays, or None.
        imports: modules that register tasks.

    Raises:
        OnibusError: there is no such task, set or character; or the task has its own.
    """
    import_tasks(imports)
    if registered_task(name) is None:
        similar = difflib.get_close_matches(name, registered_names(), n=2, cutoff=0.75)
        if similar:
            raise OnibusError(f"unknown task {name!r}; did you mean {' or '.join(similar)}?")
        check_played(name, actions, character)
    elif actions or character:
        flag = "--actions" if actions else "--character"
        raise OnibusError(f"{flag} is for NetHack's tasks; leave it out for {name}")


def make_environment(
    task: str,
    *,
    run: str,
    worker: int,
    environment: int,
    seed: int | None,
    bus: Callable[[], RolloutBus | None],
    observation: Literal["small", "full"] = "small",
    max_episode_steps: int | None = None,
    actions: Actions | None = None,
    character: str | None = None,
) -> AnyEnvironment:
    """An environment with captions; arguments as :class:`NetHackEnvironment` and :class:`CaptionWrapper`
    have them, those that only NetHack has being left out for a registered task.

    Raises:
        OnibusError: as these two.
    """
    if (own := registered_task(task)) is not None:
        return CaptionWrapper(
            own.make(),
            own.captioner,
            task=own,
            max_episode_steps=max_episode_steps,
            run=run,
            worker=worker,
            environment=environment,
            seed=seed,
            bus=bus,
        )
    return NetHackEnvironment(
        task=task,
        observation=observation,
        max_episode_steps=max_episode_steps,
        actions=actions,
        character=character,
        run=run,
        worker=worker,
        environment=environment,
        seed=seed,
        bus=bus,
    )
