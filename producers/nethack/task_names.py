"""Names of NetHack's tasks and of their sets of actions; needs no NLE, so that a command can show them."""

from __future__ import annotations

from typing import Literal

from onibus.infra.errors import OnibusError

TASK_VERSION = 1
"""Which definition a task's name stands for; recorded with each episode, so that old ones still play.

* 0: ``score`` … ``scout`` were NLE's own tasks, and staircases to level 3 and 4 counted depth. They are
  called ``nle-score`` and so on now.
* 1: the published tasks.
"""

SPARSE_TASKS = ("staircase", "staircase-level-3", "staircase-level-4", "oracle", "oracle-sober")
CONTINUAL = "-continual"
"""Ends the name of a sparse task that goes on after its success."""
PUBLISHED_TASKS = ("score", *SPARSE_TASKS, *(f"{name}{CONTINUAL}" for name in SPARSE_TASKS), "gold", "scout")

NLE = "nle-"
"""Begins the name of a task as NLE has it, and as onibus had it as version 0."""
NLE_SPARSE_TASKS = ("nle-oracle", "nle-staircase", "nle-staircase-level-3", "nle-staircase-level-4")
NLE_DENSE_TASKS = ("nle-score", "nle-gold", "nle-scout")
NLE_TASKS = (*NLE_DENSE_TASKS, *NLE_SPARSE_TASKS)

Actions = Literal["oni", "nle"]
"""Sets of actions: the published 28, or NLE's 23 (:mod:`onibus.producers.nethack.oni_actions`)."""

ACTION_SETS: tuple[Actions, ...] = ("oni", "nle")


def default_actions(task: str) -> Actions | None:
    """The actions of a task unless others are asked for; None for MiniHack's, which have their own."""
    if task in PUBLISHED_TASKS:
        return "oni"
    return "nle" if task in NLE_TASKS else None


def name_of_version(task: str, version: int) -> str:
    """What a task is called now that was called ``task`` under a :data:`TASK_VERSION`.

    Raises:
        OnibusError: the version is newer than this onibus.
    """
    if version > TASK_VERSION:
        raise OnibusError(
            f"task {task} is of version {version}, this onibus has {TASK_VERSION}; upgrade onibus"
        )
    return f"{NLE}{task}" if version == 0 and f"{NLE}{task}" in NLE_TASKS else task


def is_sparse(task: str) -> bool:
    """Whether a task of NetHack's pays for a success alone."""
    return task.removesuffix(CONTINUAL) in (*SPARSE_TASKS, *NLE_SPARSE_TASKS)
