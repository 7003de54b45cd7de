"""The environment of a task, whether it is NetHack's, MiniHack's or one that the user registered."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

from onibus.infra.captioner_names import MESSAGE
from onibus.infra.errors import OnibusError
from onibus.producers.environments.caption_wrapper import CaptionWrapper
from onibus.producers.environments.tasks import import_tasks, registered_names, registered_task
from onibus.producers.nethack.captioners import game_captioner
from onibus.producers.nethack.environment import NetHackEnvironment
from onibus.producers.nethack.task_names import Actions
from onibus.producers.nethack.tasks import check_played
from onibus.producers.publishing.caption_publisher import RolloutBus

AnyEnvironment = NetHackEnvironment | CaptionWrapper


def check_task(
    name: str,
    actions: str | None,
    character: str | None,
    imports: Iterable[str],
    captioner: str = MESSAGE,
    dungeons: str | None = None,
) -> None:
    """Do nothing if a task can be played with these parts.

    Args:
        name: of the task.
        actions: a set of actions, or None.
        character: who plays, or None.
        imports: modules that register tasks.
        captioner: name of one of NetHack's.
        dungeons: those that are played in, or None.

    Raises:
        OnibusError: there is no such task, set, character or captioner; or the task has its own.
    """
    import_tasks(imports)
    if registered_task(name) is None:
        check_played(name, actions, character, dungeons, registered_names())
        game_captioner(captioner)
        return
    given_flags = {
        "--actions": actions,
        "--character": character,
        "--captioner": None if captioner == MESSAGE else captioner,
        "--dungeons": dungeons,
    }
    if flag := next((flag for flag, given in given_flags.items() if given), None):
        raise OnibusError(f"{flag} is for NetHack's tasks; leave it out for {name}")


def make_environment(
    task: str,
    *,
    run: str,
    worker: int,
    environment: int,
    seed: int | None,
    bus: Callable[[], RolloutBus | None],
    observation: Literal["small", "medium", "full"] = "small",
    captions: bool = True,
    max_episode_steps: int | None = None,
    actions: Actions | None = None,
    character: str | None = None,
    captioner: str = MESSAGE,
    dungeons: str | None = None,
    kinds: tuple[type[NetHackEnvironment], type[CaptionWrapper]] = (NetHackEnvironment, CaptionWrapper),
) -> AnyEnvironment:
    """The environment of a task.

    Arguments are as :class:`NetHackEnvironment` and :class:`CaptionWrapper` have them; those that only
    NetHack has are left out for a registered task.

    Args:
        kinds: what is made: for a task of NetHack's or MiniHack's, and for a registered one.

    Raises:
        OnibusError: as these two.
    """
    nethack, wrapped = kinds
    if (own := registered_task(task)) is not None:
        return wrapped(
            own.make(),
            own.captioner,
            task=own,
            captions=captions,
            max_episode_steps=max_episode_steps,
            run=run,
            worker=worker,
            environment=environment,
            seed=seed,
            bus=bus,
        )
    return nethack(
        task=task,
        observation=observation,
        captions=captions,
        max_episode_steps=max_episode_steps,
        actions=actions,
        character=character,
        captioner=captioner,
        dungeons=dungeons,
        run=run,
        worker=worker,
        environment=environment,
        seed=seed,
        bus=bus,
    )
