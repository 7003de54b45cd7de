"""The sparse tasks of the published experiments: a reward for a success, and 0 for everything else.

After Motif (Klissarov et al., arXiv 2310.00166) and ONI (Zheng et al., arXiv 2410.23022).
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from typing import Any

from nle import nethack
from nle.env import tasks as nle_tasks

from onibus.producers.nethack.hearing_game import HearingGame

SUCCESS_REWARD = 50.0

_DUNGEONS_OF_DOOM = 0
_STAIRS_TAKEN = re.compile(rb"You (?:descend|fall down|fly down) the stairs")
"""What NetHack says of stairs: "fall down" to the burdened, the fumbling and who wears ball and chain."""


class SparseTask(HearingGame):
    """Pays :data:`SUCCESS_REWARD` for the first success of an episode, and else exactly 0.

    Args:
        continual: play on after the success, to death or the step limit, for rewards that are not the task's.
    """

    class StepStatus(enum.IntEnum):
        """How a step left the episode."""

        ABORTED = -1
        RUNNING = 0
        DEATH = 1
        TASK_SUCCESSFUL = 2

    def __init__(
        self,
        *args: Any,
        continual: bool = False,
        actions: Sequence[int] = nle_tasks.TASK_ACTIONS,
        **kwargs: Any,
    ) -> None:
        self.succeeded = False
        """Whether this episode has had its success."""
        self._continual = continual
        self._pays = False
        super().__init__(*args, actions=actions, **kwargs)

    def _succeeds(self, observation: Sequence[Any]) -> bool:
        """Whether a step that ended with ``observation``, NLE's list of arrays, is a success."""
        raise NotImplementedError

    def reset(self, *args: Any, **kwargs: Any) -> Any:
        """Begin a game."""
        self._pays = False
        self.succeeded = True  # what the first observation shows is nothing that the player did
        started = super().reset(*args, **kwargs)
        self.succeeded = False
        return started

    def _get_end_status(self, observation: Sequence[Any], done: bool) -> Any:
        """NLE's, but a success is one at the step limit, too."""
        self._pays = not (done or self.succeeded) and self._succeeds(observation)
        self.succeeded |= self._pays
        if self._pays and not self._continual:
            return self.StepStatus.TASK_SUCCESSFUL
        return super()._get_end_status(observation, done)

    def _reward_fn(self, *_step: Any) -> float:
        return SUCCESS_REWARD if self._pays else 0.0


class Staircase(SparseTask):
    """Take the stairs down to a level of the Dungeons of Doom.

    The game must say that the stairs were taken in the step that arrives there, also behind a ``--More--``:
    trap doors and holes do not count. Nor does the Gnomish Mines' level of that number: the published
    programs compare the level within the dungeon alone, by which the third level of the Mines (depth 5 to
    7) would pass for level 3. They also miss stairs that a burdened player falls down.

    Args:
        level: number of the level, 2 or more.
    """

    def __init__(self, *args: Any, level: int, **kwargs: Any) -> None:
        self._level = level
        self._took_stairs = False
        super().__init__(*args, **kwargs)

    def step(self, action: int) -> Any:
        """One action."""
        self._took_stairs = False
        return super().step(action)

    def _hear(self, message: bytes) -> None:
        self._took_stairs = self._took_stairs or _STAIRS_TAKEN.search(message) is not None
        super()._hear(message)

    def _succeeds(self, observation: Sequence[Any]) -> bool:
        if not self._took_stairs:
            return False
        blstats = observation[self._blstats_index]
        in_main_dungeon = blstats[nethack.NLE_BL_DNUM] == _DUNGEONS_OF_DOOM
        return bool(in_main_dungeon and blstats[nethack.NLE_BL_DLEVEL] == self._level)


class Oracle(SparseTask):
    """Stand beside the Oracle: her glyph is one of the 3 x 3 around the player.

    Args:
        sober: not while hallucinating, when anything may look like her. Policies learn to eat what makes so.
    """

    def __init__(self, *args: Any, sober: bool = False, **kwargs: Any) -> None:
        self._sober = sober
        super().__init__(*args, **kwargs)

    def _succeeds(self, observation: Sequence[Any]) -> bool:
        blstats = observation[self._blstats_index]
        x, y = blstats.item(nethack.NLE_BL_X), blstats.item(nethack.NLE_BL_Y)
        around = observation[self._glyph_index][max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
        if not (around == ORACLE_GLYPH).any():
            return False
        return not (self._sober and blstats[nethack.NLE_BL_CONDITION] & nethack.BL_MASK_HALLU)


def _glyph_of_monster(name: str) -> int:
    glyphs = range(nethack.GLYPH_MON_OFF, nethack.GLYPH_PET_OFF)
    return next(g for g in glyphs if nethack.permonst(nethack.glyph_to_mon(g)).mname == name)


ORACLE_GLYPH = _glyph_of_monster("Oracle")
