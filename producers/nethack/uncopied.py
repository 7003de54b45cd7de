"""MiniHack's largest observations, which are not copied at each step.

Before each step NLE copies what was observed last, and MiniHack once more, so that rewards can compare. And
MiniHack asks NLE to describe every square, 130 KB, whatever the task. No reward compares descriptions or the
terminal's picture, so they stay where they are: of what is copied, nine tenths.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import gymnasium as gym
from numpy.typing import NDArray

KEYS = ("screen_descriptions", "tty_chars", "tty_colors")
"""NLE's names of the observations that are not copied."""


class _Uncopied:
    """Stands for an array where observations are copied one after the other."""

    __slots__ = ("_array",)

    def __init__(self, array: NDArray[Any]) -> None:
        self._array = array

    def copy(self) -> NDArray[Any]:
        """The array itself."""
        return self._array


class _Observed(tuple[NDArray[Any], ...]):
    """NLE's observations; who goes through them meets the uncopied ones as such."""

    met: Sequence[Any]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.met)


def leave_uncopied(env: gym.Env[Any, Any]) -> None:
    """Copy no observations of :data:`KEYS` at the steps of an NLE or MiniHack environment."""
    game: Any = env.unwrapped
    keys = game._observation_keys
    if not set(KEYS).intersection(keys):
        return
    arrays = game.nethack._obs
    observed = _Observed(arrays)
    observed.met = [
        _Uncopied(array) if key in KEYS else array for key, array in zip(keys, arrays, strict=True)
    ]
    game.nethack._step_return = lambda: observed
