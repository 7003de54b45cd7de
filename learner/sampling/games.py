"""Many games of one process, stepped in one call; what comes of it is written into arrays of all games."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onibus.producers.nethack.environment import NetHackEnvironment

Observations = Mapping[str, NDArray[Any]]
"""Rows of observations by name, each (N, …): row n is the n-th game's."""


class Finished(NamedTuple):
    """An episode that has just ended."""

    game: int
    """Index of its game."""
    statistics: Mapping[str, float]
    """``episode_extra_stats`` of :class:`NetHackEnvironment`."""


class Games:
    """N environments that begin their next episode by themselves.

    Attributes:
        rewards: (N,) float64, extrinsic rewards of the last step.
        ended: (N,) bool, whether the last step ended the episode.
        cut_off: (N,) bool, whether its step limit did.
    """

    def __init__(self, environments: Sequence[NetHackEnvironment]) -> None:
        self._environments = tuple(environments)
        count = len(self._environments)
        self.rewards = np.zeros(count)
        self.ended = np.zeros(count, np.bool_)
        self.cut_off = np.zeros(count, np.bool_)

    def __len__(self) -> int:
        return len(self._environments)

    def reset(self, seeds: Sequence[int], random_steps: Sequence[int], into: Observations) -> None:
        """Begin every game; then take some random actions in each, so that their episodes end apart.

        Args:
            seeds: of each game, see :meth:`NetHackEnvironment.reset`.
            random_steps: how many actions in each.
            into: rows for the observations.
        """
        for game, (environment, seed) in enumerate(zip(self._environments, seeds, strict=True)):
            observation, _ = environment.reset(seed=seed)
            for _ in range(random_steps[game]):
                observation, _, terminated, truncated, _ = environment.step(environment.action_space.sample())
                if terminated or truncated:
                    observation, _ = environment.reset()
            _write(observation, into, game)

    def step(self, actions: Sequence[int], into: Observations) -> list[Finished]:
        """One action in each game; returns the episodes that it ended.

        The observation of a game whose episode ended is that of its next episode's beginning.

        Args:
            actions: one for each game.
            into: rows for the observations.
        """
        finished = []
        rewards, ended, cut_off = self.rewards, self.ended, self.cut_off
        for game, (environment, action) in enumerate(zip(self._environments, actions, strict=True)):
            observation, reward, terminated, truncated, info = environment.step(action)
            rewards[game] = reward
            ended[game] = over = terminated or truncated
            cut_off[game] = truncated
            if over:
                finished.append(Finished(game, info["episode_extra_stats"]))
                observation, _ = environment.reset()
            _write(observation, into, game)
        return finished

    def set_policy_version(self, version: int) -> None:
        """Note which version of the policy acts from here on."""
        for environment in self._environments:
            environment.policy_version = version

    def close(self) -> None:
        """Close every game."""
        for environment in self._environments:
            environment.close()


def _write(observation: Observations, into: Observations, game: int) -> None:
    for name, rows in into.items():
        rows[game] = observation[name]
