"""Tasks of the user's own, by name: registered by a module, found through ``--import`` or an entry point.

Needs no Gymnasium, so that a command can show its flags.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from onibus.infra.errors import OnibusError
from onibus.infra.plugins import failure_of, import_plugin, version_of
from onibus.producers.nethack.task_names import NLE_TASKS, PUBLISHED_TASKS
from onibus.producers.publishing.caption_texts import Captioner

if TYPE_CHECKING:
    import gymnasium as gym
    from torch import nn

ENTRY_POINTS = "onibus.tasks"
"""Group of Python entry points: a task's name, and the module that registers it."""

Encoder = Callable[["gym.spaces.Dict"], "nn.Module"]
"""Makes a policy's network up to its features: (B, …) tensors by name to (B, F)."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")


@dataclass(frozen=True)
class RegisteredTask:
    """One task; see :func:`register_task`. ``module`` registered it."""

    name: str
    factory: Callable[[], gym.Env[Any, Any]]
    captioner: Captioner | None
    spec: str
    encoder: Encoder | None
    module: str

    @cached_property
    def version(self) -> str:
        """Of the module, as records have it."""
        return version_of(self.module)

    @property
    def plugin(self) -> str:
        """The module and its version, as records name them."""
        return f"{self.module} {self.version}"

    @cached_property
    def is_discrete(self) -> bool:
        """Whether its actions are; makes an environment, once."""
        from onibus.producers.environments.spaces import action_arrays

        environment = self.make()
        try:
            return action_arrays(environment.action_space).is_discrete
        finally:
            environment.close()  # type: ignore[no-untyped-call]

    def make(self) -> gym.Env[Any, Any]:
        """A new environment.

        Raises:
            OnibusError: the factory failed, or made something else.
        """
        import gymnasium as gym

        try:
            made = self.factory()
        except Exception as error:
            raise failure_of(f"the factory of task {self.name}, in {self.module},", error) from error
        if not isinstance(made, gym.Env):
            raise OnibusError(
                f"the factory of task {self.name}, in {self.module}, made a {type(made).__name__}; have it "
                "return a gymnasium.Env"
            )
        return made


_tasks: dict[str, RegisteredTask] = {}


def register_task(
    name: str,
    factory: Callable[[], gym.Env[Any, Any]],
    *,
    captioner: Captioner | None = None,
    spec: str | None = None,
    encoder: Encoder | None = None,
) -> None:
    """Make an environment a task that ``onibus learn --task NAME`` knows.

    Call it when your module is imported: every process of a run imports it anew.

    Args:
        name: small letters, digits, ``.``, ``_`` and ``-``; not one of NetHack's tasks.
        factory: makes one environment; called for each of a run's, and once or twice to learn the spaces.
        captioner: says in words what a step brought about, see
            :class:`~onibus.producers.publishing.caption_texts.Transition`; None takes ``info["caption"]``.
        spec: name of the spec that rewards it unless ``--spec`` says otherwise; None for the task's name.
        encoder: makes the policy's network up to its features: called with the space of its observations
            (arrays by name), it returns a torch module that takes a dict of (B, …) tensors of them, uint8 or
            float32, to (B, F) float32. None chooses by the space: linear layers for vectors, convolutions for
            images (three dimensions) and for the bytes of texts.

    Raises:
        OnibusError: the name cannot be that of a task, or another module has registered it.
    """
    module = getattr(sys._getframe(1), "f_globals", {}).get("__name__", "?")
    if not _NAME.fullmatch(name):
        raise OnibusError(
            f"register_task: {name!r} cannot be a task's name; use small letters, digits, '.', '_' and '-'"
        )
    if name in PUBLISHED_TASKS or name in NLE_TASKS:
        raise OnibusError(f"register_task: {name!r} is a task of NetHack's; choose another name")
    other = _tasks.get(name)
    if other is not None and other.module != module:
        raise OnibusError(f"task {name} is registered by {other.module} and by {module}; rename one of them")
    _tasks[name] = RegisteredTask(name, factory, captioner, spec or name, encoder, module)


def import_tasks(modules: Iterable[str]) -> None:
    """Import the modules of ``--import``, which register their tasks.

    Raises:
        OnibusError: one cannot be imported.
    """
    for module in modules:
        import_plugin("--import", module)


def registered_names() -> list[str]:
    """Names of the tasks that modules have registered so far, and that entry points name."""
    return sorted({*_tasks, *(point.name for point in entry_points(group=ENTRY_POINTS))})


def registered_task(name: str) -> RegisteredTask | None:
    """The task of this name that a module has registered, or that an entry point names; else None.

    Raises:
        OnibusError: the entry point's module cannot be imported, or does not register the task.
    """
    if name in _tasks:
        return _tasks[name]
    module = named_by_packages().get(name)
    if module is None:
        return None
    import_plugin(f"entry point {ENTRY_POINTS}: {name} =", module)
    if name not in _tasks:
        raise OnibusError(f"the entry point of task {name} is {module}, which does not register it")
    return _tasks[name]


@cache
def named_by_packages() -> Mapping[str, str]:
    """Modules by the names of the tasks that installed packages say they register."""
    return {one.name: one.module for one in entry_points(group=ENTRY_POINTS)}
