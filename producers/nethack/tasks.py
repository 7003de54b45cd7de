"""Tasks by name: NLE's, two deeper staircases, and every registered MiniHack environment.

A reward-free run is a coefficient of 0 on the learner's side, not another task.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Sequence
from typing import Any, cast

import gymnasium as gym
from gymnasium.envs.registration import load_env_creator
from nle import nethack
from nle.env import tasks as nle_tasks

from onibus.infra.errors import OnibusError

OBSERVATION_KEYS = ("glyphs", "blstats", "message")
"""The raw observations that :class:`onibus.producers.nethack.environment.NetHackEnvironment` works on."""

_MINIHACK = "MiniHack-"


class StaircaseToLevel(nle_tasks.NetHackStaircase):  # type: ignore[misc]
    """Come down a staircase to dungeon level ``level``; reward 1 then, else NLE's small time penalty.

    The level is the one that the status line shows as ``Dlvl``, in the main dungeon or the Mines. A trap
    door there does not count, walking down from there does: the published level-3 and level-4 tasks
    (Motif, Klissarov et al., arXiv 2310.00166) ask for stairs too.
    """

    def __init__(self, *args: Any, level: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._level = level
        self._depth = 0
        self._on_stairs_down = False

    def _is_episode_end(self, observation: Sequence[Any]) -> Any:
        depth = int(observation[self._blstats_index][nethack.NLE_BL_DEPTH])
        descended = self._on_stairs_down and depth == self._depth + 1
        self._depth = depth
        self._on_stairs_down = bool(observation[self._internal_index][4])
        if descended and depth >= self._level:
            return self.StepStatus.TASK_SUCCESSFUL
        return self.StepStatus.RUNNING


_NLE_TASKS: dict[str, tuple[Callable[..., gym.Env[Any, Any]], dict[str, Any]]] = {
    "score": (nle_tasks.NetHackScore, {}),
    "oracle": (nle_tasks.NetHackOracle, {}),
    "staircase": (nle_tasks.NetHackStaircase, {}),
    "staircase-level-3": (StaircaseToLevel, {"level": 3}),
    "staircase-level-4": (StaircaseToLevel, {"level": 4}),
    "gold": (nle_tasks.NetHackGold, {}),
    "scout": (nle_tasks.NetHackScout, {}),
}


def task_names() -> list[str]:
    """Every name that :func:`make_task` takes: NLE's first, then MiniHack's in alphabetical order."""
    return [*_NLE_TASKS, *sorted(_minihack_ids())]


def check_task(name: str) -> None:
    """Do nothing if ``name`` is a task.

    Raises:
        OnibusError: it is not; the message names close matches.
    """
    if name in _NLE_TASKS:
        return
    ids = _minihack_ids()
    if _short(name) in ids:
        return
    close = difflib.get_close_matches(name.lower(), [*_NLE_TASKS, *ids], n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else f"choose from {', '.join(_NLE_TASKS)}"
    raise OnibusError(f"unknown task {name!r}; {hint} (or any registered MiniHack environment)")


def is_minihack(name: str) -> bool:
    """Whether a task name that passed :func:`check_task` is one of MiniHack's."""
    return name not in _NLE_TASKS


def make_task(
    name: str,
    *,
    max_episode_steps: int | None = None,
    observation_keys: Sequence[str] = OBSERVATION_KEYS,
    by_clock: bool = False,
) -> gym.Env[Any, Any]:
    """The bare environment of a task, with its published actions, rewards and character.

    Args:
        name: one of :func:`task_names`, or a MiniHack id such as ``MiniHack-KeyRoom-S5-v0``.
        max_episode_steps: step limit; None keeps the task's own (NLE 5000, MiniHack by environment).
        observation_keys: NLE's names of the observations to return.
        by_clock: leave moon, Friday the 13th and night to the clock, as before NLE 1.3; by default they come
            from the seeds.

    Raises:
        OnibusError: no such task, a limit below 1, or a package or file the task needs is missing.
    """
    check_task(name)
    if max_episode_steps is not None and max_episode_steps < 1:
        raise OnibusError(f"max episode steps is {max_episode_steps}; give 1 or more")
    if name in _NLE_TASKS:
        create, arguments = _NLE_TASKS[name]
    else:
        spec = gym.spec(_minihack_ids()[_short(name)])
        assert isinstance(spec.entry_point, str)
        create, arguments = _creator(spec.entry_point), dict(spec.kwargs)
    try:
        with _without_packaging_warnings():
            task = create(observation_keys=tuple(observation_keys), fix_moon_phase=not by_clock, **arguments)
    except (ImportError, FileNotFoundError) as error:
        raise OnibusError(
            f"task {name} cannot start: {error}; install what it asks for, or choose another task"
        ) from error
    if max_episode_steps is not None:
        # gym.make() keeps the argument for a wrapper of its own and some constructors ignore it; this
        # is what NLE itself compares its step count with.
        task.unwrapped._max_episode_steps = max_episode_steps  # type: ignore[attr-defined]
    return task


def _creator(entry_point: str) -> Callable[..., gym.Env[Any, Any]]:
    creator: Any = load_env_creator(entry_point)
    return cast(Callable[..., gym.Env[Any, Any]], creator)


def _short(name: str) -> str:
    """``MiniHack-KeyRoom-S5-v0`` → ``keyroom-s5``; short names stay as they are."""
    return name.lower().removeprefix(_MINIHACK.lower()).removesuffix("-v0").removesuffix("-v1")


def _minihack_ids() -> dict[str, str]:
    """Registered MiniHack ids by short name; the import takes a second, so only when needed."""
    with _without_packaging_warnings():
        import minihack  # noqa: F401  (registers its environments)
    return {_short(name): name for name in gym.registry if name.startswith(_MINIHACK)}


class _without_packaging_warnings(warnings.catch_warnings):  # noqa: N801  (reads as a statement)
    """MiniHack imports pkg_resources, which warns about its own end: nothing a user can act on."""

    def __enter__(self) -> Any:
        entered = super().__enter__()
        warnings.filterwarnings("ignore", message=".*pkg_resources")
        warnings.filterwarnings("ignore", message=".*declare_namespace")
        return entered
