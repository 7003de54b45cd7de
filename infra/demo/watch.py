"""How long a demo is watched."""

from __future__ import annotations

import math
from dataclasses import dataclass

GOAL_RETURN = 0.8
"""A return of KeyRoom above this means: it has learnt to reach the stairs."""
_LEARNABLE_TASKS = ("keyroom-s5",)
_USUAL_SECONDS = 240.0
_LONGEST_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Watch:
    """Over after ``longest`` seconds, or after ``shortest`` once the return has passed ``goal``."""

    longest: float
    shortest: float = 0.0
    goal: float = math.inf

    def is_over(self, seconds: float, episode_return: float) -> bool:
        """Whether enough was seen; a return that is not known yet is NaN."""
        return seconds >= self.longest or (seconds >= self.shortest and episode_return > self.goal)

    @property
    def expected(self) -> float:
        """Seconds that it takes as a rule."""
        return self.longest if math.isinf(self.goal) else self.shortest

    @property
    def until(self) -> str:
        """Its end in a few words."""
        if math.isinf(self.goal):
            return f"{int(self.longest) // 60}:{int(self.longest) % 60:02d}"
        return f"return {self.goal:g}"


def watch_for(minutes: float | None, task: str, reward: str) -> Watch:
    """The time asked for; else four minutes, and on until what can be learnt is learnt, ten at most.

    How many steps a processor makes in four minutes differs by more than a factor of two between machines.
    """
    if minutes is not None:
        return Watch(longest=minutes * 60)
    if task in _LEARNABLE_TASKS and reward != "none":
        return Watch(_LONGEST_SECONDS, _USUAL_SECONDS, GOAL_RETURN)
    return Watch(longest=_USUAL_SECONDS)
