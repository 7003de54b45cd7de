"""Tasks by name: the published ones of NetHack, NLE's own, and every registered MiniHack environment.

A reward-free run is a coefficient of 0 on the learner's side, not another task.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import load_env_creator
from nle.env import tasks as nle_tasks

from onibus.infra.errors import OnibusError, did_you_mean
from onibus.infra.plugins import failure_of, without_packaging_warnings
from onibus.producers.nethack.characters import DEFAULT_CHARACTER, character_of, parse_characters
from onibus.producers.nethack.dungeons import parse_dungeons
from onibus.producers.nethack.hearing_game import hearing
from onibus.producers.nethack.oni_actions import with_oni_actions
from onibus.producers.nethack.sparse_tasks import Oracle, Staircase
from onibus.producers.nethack.staircase_by_depth import StaircaseByDepth
from onibus.producers.nethack.task_names import (
    ACTION_SETS,
    CONTINUAL,
    NLE_TASKS,
    PUBLISHED_TASKS,
    Actions,
    default_actions,
)

OBSERVATION_KEYS = ("glyphs", "blstats", "message")
"""The raw observations that :class:`onibus.producers.nethack.environment.NetHackEnvironment` works on."""

_MINIHACK = "MiniHack-"
_LEVEL = os.path.join("lib", "mylevel.lev")
"""What MiniHack compiles a level description to, in the folder of a game."""

_Creation = tuple[Callable[..., gym.Env[Any, Any]], dict[str, Any]]

_SPARSE: dict[str, _Creation] = {
    "staircase": (Staircase, {"level": 2}),
    "staircase-level-3": (Staircase, {"level": 3}),
    "staircase-level-4": (Staircase, {"level": 4}),
    "oracle": (Oracle, {}),
    "oracle-sober": (Oracle, {"sober": True}),
}

_PUBLISHED: dict[str, _Creation] = {
    "score": (nle_tasks.NetHackScore, {}),
    **_SPARSE,
    **{
        f"{name}{CONTINUAL}": (create, {**arguments, "continual": True})
        for name, (create, arguments) in _SPARSE.items()
    },
    "gold": (nle_tasks.NetHackGold, {}),
    "scout": (nle_tasks.NetHackScout, {}),
}

_OF_NLE: dict[str, _Creation] = {
    "nle-score": (nle_tasks.NetHackScore, {}),
    "nle-oracle": (nle_tasks.NetHackOracle, {}),
    "nle-staircase": (nle_tasks.NetHackStaircase, {}),
    "nle-staircase-level-3": (StaircaseByDepth, {"level": 3}),
    "nle-staircase-level-4": (StaircaseByDepth, {"level": 4}),
    "nle-gold": (nle_tasks.NetHackGold, {}),
    "nle-scout": (nle_tasks.NetHackScout, {}),
}

_NETHACK = _PUBLISHED | _OF_NLE

assert set(_PUBLISHED) == set(PUBLISHED_TASKS)
assert set(_OF_NLE) == set(NLE_TASKS)


def check_task(name: str, others: Iterable[str] = ()) -> None:
    """Do nothing if ``name`` is a task of NetHack's or MiniHack's; ``others`` may be meant, too.

    Raises:
        OnibusError: it is not; the message names close matches.
    """
    if name in _NETHACK:
        return
    ids = _minihack_ids()
    if _short(name) in ids:
        return
    if name.endswith(".des"):
        raise OnibusError(
            f"unknown task {name!r}; a level file becomes a task in a module that registers it: see "
            "'A MiniHack level' in infra/docs/extending.md"
        )
    choice = f"choose from {', '.join([*PUBLISHED_TASKS, *NLE_TASKS])}"
    hint = did_you_mean(name.lower(), [*others, *_NETHACK, *ids], choice, most=3)
    raise OnibusError(
        f"unknown task {name!r}; {hint} (or any registered MiniHack environment; "
        "of your own, see onibus learn --import)"
    )


def is_minihack(name: str) -> bool:
    """Whether a task name that passed :func:`check_task` is one of MiniHack's."""
    return name not in _NETHACK


def make_task(
    name: str,
    *,
    max_episode_steps: int | None = None,
    observation_keys: Sequence[str] = OBSERVATION_KEYS,
    by_clock: bool = False,
    actions: Actions | None = None,
    character: str | None = None,
) -> gym.Env[Any, Any]:
    """The bare environment of a task.

    Args:
        name: one of :func:`task_names`, or a MiniHack id such as ``MiniHack-KeyRoom-S5-v0``.
        max_episode_steps: step limit; None keeps the task's own (NLE 5000, MiniHack by environment).
        observation_keys: NLE's names of the observations to return.
        by_clock: leave moon, Friday the 13th and night to the clock, as before NLE 1.3; by default they come
            from the seeds.
        actions: a set of actions; None for :func:`default_actions`.
        character: who plays, see :mod:`onibus.producers.nethack.characters`, of several the first; None
            for NLE's.

    Raises:
        OnibusError: as :func:`check_played`, a limit below 1, or a package or file the task needs is missing.
    """
    check_played(name, actions, character)
    if max_episode_steps is not None and max_episode_steps < 1:
        raise OnibusError(f"max episode steps is {max_episode_steps}; give 1 or more")
    create, arguments = _creation(name, actions, character)
    try:
        with without_packaging_warnings():
            task: Any = create(
                observation_keys=tuple(observation_keys), fix_moon_phase=not by_clock, **arguments
            )
    except (ImportError, FileNotFoundError) as error:
        raise OnibusError(
            f"task {name} cannot start: {error}; install what it asks for, or choose another task"
        ) from error
    except Exception as error:
        raise failure_of(f"the environment of task {name}", error) from error
    if is_minihack(name) and not os.path.exists(os.path.join(task.unwrapped.nethack._vardir, _LEVEL)):
        task.close()  # MiniHack would play whatever level NetHack makes up
        raise OnibusError(
            f"task {name} cannot start: its level description does not compile (see any lines above); "
            'correct the .des file, whose level is to be called "mylevel"'
        )
    if max_episode_steps is not None:
        # gym.make() keeps the argument for a wrapper of its own and some constructors ignore it; this
        # is what NLE itself compares its step count with.
        task.unwrapped._max_episode_steps = max_episode_steps
    made: gym.Env[Any, Any] = task
    return made


def check_played(
    name: str,
    actions: str | None,
    character: str | None,
    dungeons: str | None = None,
    others: Iterable[str] = (),
) -> None:
    """Do nothing if a task can be played with a set of actions, a character, or several, and dungeons.

    Args:
        name: of the task.
        actions: a set of actions, or None.
        character: who plays, or None.
        dungeons: those that are played in, or None.
        others: tasks that are not played here and may be meant, too.

    Raises:
        OnibusError: there is no such task, set or character; or the task is one of MiniHack's, which have
            actions, a character and levels of their own.
    """
    check_task(name, others)
    if is_minihack(name) and (actions or character or dungeons):
        flag = "--actions" if actions else "--character" if character else "--dungeons"
        raise OnibusError(f"{flag}: {name} is a task of MiniHack's, which has its own; leave {flag} out")
    if actions is not None and actions not in ACTION_SETS:
        raise OnibusError(f"--actions: there are no actions {actions!r}; give {' or '.join(ACTION_SETS)}")
    if character is not None:
        parse_characters(character)
    if dungeons is not None:
        parse_dungeons(dungeons)


def _creation(name: str, actions: Actions | None, character: str | None) -> _Creation:
    if is_minihack(name):
        spec = gym.spec(_minihack_ids()[_short(name)])
        assert isinstance(spec.entry_point, str)
        creator: Any = load_env_creator(spec.entry_point)
        return creator, dict(spec.kwargs)
    create, arguments = _NETHACK[name]
    is_oni = (actions or default_actions(name)) == "oni"
    create = with_oni_actions(create) if is_oni else hearing(create)
    one = character_of(parse_characters(character or DEFAULT_CHARACTER), 0, 0)
    return create, {**arguments, "character": one}


def _short(name: str) -> str:
    """``MiniHack-KeyRoom-S5-v0`` → ``keyroom-s5``; short names stay as they are."""
    return name.lower().removeprefix(_MINIHACK.lower()).removesuffix("-v0").removesuffix("-v1")


def _minihack_ids() -> dict[str, str]:
    """Registered MiniHack ids by short name; the import takes a second, so only when needed."""
    with without_packaging_warnings():
        import minihack  # noqa: F401  (registers its environments)
    return {_short(name): name for name in gym.registry if name.startswith(_MINIHACK)}
