"""How an episode ended: the last statistics, what it saw, and what the game wrote down about the death."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from nle import nethack
from numpy.typing import NDArray

from onibus.producers.nethack.explored import Explored
from onibus.producers.nethack.progression import progression


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of one episode.

    Attributes:
        depth: deepest level reached.
        turns: game turns.
        cut_off: whether the step limit ended it, not the game.
        success: whether the task's success came; None for a task that has none.
        scout: squares of the map seen, over all levels, see :class:`Explored`.
        progression: BALROG's, see :mod:`onibus.producers.nethack.progression`; None for MiniHack's tasks.
    """

    score: float
    depth: int
    experience_level: int
    gold: int
    turns: int
    end: str
    cause_of_death: str
    cut_off: bool
    success: bool | None
    scout: int
    progression: float | None

    def statistics(self) -> dict[str, float]:
        """The numbers that there are as floats, for a learner's ``episode_extra_stats``."""
        numbers = {
            "score": self.score,
            "depth": self.depth,
            "experience_level": self.experience_level,
            "gold": self.gold,
            "turns": self.turns,
            "success": self.success,
            "scout": self.scout,
            "progression": self.progression,
            "died": self.end == "death",
        }
        return {name: float(value) for name, value in numbers.items() if value is not None}


class EndingReader:
    """Reads the ending of each episode of one environment.

    Terminal observations are empty (NLE quits the game before it returns them), so the statistics are
    those in force before the quit, and for a death those of the step before. Cause and deepest level come
    from the line that NetHack writes to its ``xlogfile``.

    Args:
        env: the environment.
        of_nethack: whether it is a whole game, and not one of MiniHack's.
    """

    def __init__(self, env: gym.Env[Any, Any], *, of_nethack: bool) -> None:
        game: Any = env.unwrapped
        self.explored = Explored()
        self._game = game
        self._of_nethack = of_nethack
        self._xlogfile = os.path.join(game.nethack._vardir, "xlogfile")
        self._at_quit: NDArray[np.int64] | None = None
        game._quit_game = self._remembering(game._quit_game)

    def begin(self, raw: dict[str, NDArray[Any]], blstats: bytes) -> None:
        """Begin an episode with the reset's observation; :attr:`explored` is given those of the steps."""
        self._at_quit = None
        self.explored.begin()
        self.explored.look(raw["glyphs"], blstats)

    def read(self, last_blstats: NDArray[np.int64], end_status: Any) -> Ending:
        """The ending of the episode that has just ended.

        Args:
            last_blstats: (27,) int64 statistics of the step before the last.
            end_status: ``info["end_status"]`` of the last step.
        """
        was_quit = self._at_quit is not None
        blstats = last_blstats if self._at_quit is None else self._at_quit
        log = self._last_log_line()
        # At the step limit NLE says "aborted" even if the player died in that very step.
        end = end_status.name.lower() if was_quit or end_status.name != "ABORTED" else "death"
        return Ending(
            score=float(blstats[nethack.NLE_BL_SCORE]),
            depth=int(log.get("maxlvl", blstats[nethack.NLE_BL_DEPTH])),
            experience_level=int(blstats[nethack.NLE_BL_XP]),
            gold=int(blstats[nethack.NLE_BL_GOLD]),
            turns=int(blstats[nethack.NLE_BL_TIME]),
            end=end,
            cause_of_death=_cause(log) if end == "death" else "",
            cut_off=end == "aborted",
            success=self._success(end),
            scout=self.explored.scout(),
            progression=self._progression(),
        )

    def _success(self, end: str) -> bool | None:
        if not hasattr(self._game.StepStatus, "TASK_SUCCESSFUL"):
            return None
        return bool(getattr(self._game, "succeeded", end == "task_successful"))

    def _progression(self) -> float | None:
        if not self._of_nethack:
            return None
        return progression(self.explored.depth, self.explored.experience_level)

    def _remembering(self, quit_game: Callable[..., Any]) -> Callable[..., Any]:
        def remembering_quit(observation: Any, done: bool) -> Any:
            self._at_quit = observation[self._game._blstats_index].copy()
            self.explored.look(observation[self._game._glyph_index], self._at_quit.tobytes())
            return quit_game(observation, done)

        return remembering_quit

    def _last_log_line(self) -> dict[str, str]:
        with open(self._xlogfile, encoding="latin-1") as log:
            lines = log.read().splitlines()
        return dict(field.partition("=")[::2] for field in lines[-1].split("\t")) if lines else {}


def _cause(log: dict[str, str]) -> str:
    helpless = f", while {log['while']}" if "while" in log else ""
    return log.get("death", "") + helpless
