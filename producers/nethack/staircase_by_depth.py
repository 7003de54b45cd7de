"""Staircases to a depth, as onibus had them before the published tasks: old episodes play with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nle import nethack
from nle.env import tasks as nle_tasks


class StaircaseByDepth(nle_tasks.NetHackStaircase):  # type: ignore[misc]
    """Come down a staircase to dungeon level ``level``; reward 1 then, else NLE's small time penalty.

    The level is the one that the status line shows as ``Dlvl``, in the main dungeon or the Mines. A trap
    door there does not count, walking down from there does.
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
