"""Many games of one process, stepped in one call; what comes of it is written into arrays of all games."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from nle.nethack import DUNGEON_SHAPE

from onibus.producers.environments.caption_wrapper import CaptionWrapper
from onibus.producers.nethack.environment import NetHackEnvironment
from onibus.producers.nethack.explored import add_shown
from onibus.producers.nethack.observations import JointObserver, Observation


class Observations:
    """Room for one observation of each of N games.

    Attributes:
        rows: arrays by name, (N, …).
    """

    def __init__(self, rows: Observation) -> None:
        self.rows = rows

    @cached_property
    def of_games(self) -> list[Observation]:
        """Of each game its own part of the rows: views, made once."""
        count = len(next(iter(self.rows.values())))
        return [{name: array[game] for name, array in self.rows.items()} for game in range(count)]


class Finished(NamedTuple):
    """An episode that has just ended."""

    game: int
    """Index of its game."""
    statistics: Mapping[str, float]
    """``episode_extra_stats`` of :class:`NetHackEnvironment` or :class:`CaptionWrapper`."""


class Games:
    """N environments that begin their next episode by themselves.

    Attributes:
        rewards: (N,) float64, extrinsic rewards of the last step.
        ended: (N,) bool, whether the last step ended the episode.
        cut_off: (N,) bool, whether its step limit did.
    """

    def __init__(self, environments: Sequence[NetHackEnvironment] | Sequence[CaptionWrapper]) -> None:
        self._environments: tuple[NetHackEnvironment | CaptionWrapper, ...] = tuple(environments)
        self._observer: JointObserver | None = None
        self._of_nethack = [one for one in self._environments if isinstance(one, NetHackEnvironment)]
        self._others = [one for one in self._environments if isinstance(one, CaptionWrapper)]
        count = len(self._environments)
        self.rewards = np.zeros(count)
        self.ended = np.zeros(count, np.bool_)
        self.cut_off = np.zeros(count, np.bool_)
        self._seen, self._room = np.zeros((2, count, *DUNGEON_SHAPE), np.bool_)

    def __len__(self) -> int:
        return len(self._environments)

    def reset(self, seeds: Sequence[int], random_steps: Sequence[int], into: Observations) -> None:
        """Begin every game; then take some random actions in each, so that their episodes end apart.

        Args:
            seeds: of each game, see :meth:`NetHackEnvironment.reset`.
            random_steps: how many actions in each.
            into: room for the observations.
        """
        for game, (environment, seed) in enumerate(zip(self._environments, seeds, strict=True)):
            if isinstance(environment, CaptionWrapper):
                environment.into = into.of_games[game]
            environment.reset(seed=seed)
            for _ in range(random_steps[game]):
                _, _, terminated, truncated, _ = environment.step(environment.action_space.sample())
                if terminated or truncated:
                    environment.reset()
        if self._of_nethack:
            self._observer = JointObserver(
                [game.leave_observing(seen) for game, seen in zip(self._of_nethack, self._seen, strict=True)]
            )
            self._observe(self._observer, into)

    def step(self, actions: Sequence[int], into: Observations) -> list[Finished]:
        """One action in each game; returns the episodes that it ended.

        The observation of a game whose episode ended is that of its next episode's beginning.

        Args:
            actions: one for each game.
            into: room for the observations.
        """
        finished = []
        ended, cut_off = self.ended, self.cut_off
        rewards = [0.0] * len(self)
        ended.fill(False)
        cut_off.fill(False)
        for other, place in zip(self._others, into.of_games if self._others else (), strict=True):
            other.into = place
        for game, environment in enumerate(self._environments):
            _, rewards[game], terminated, truncated, info = environment.step(actions[game])
            if terminated or truncated:
                ended[game], cut_off[game] = True, truncated
                finished.append(Finished(game, info["episode_extra_stats"]))
                environment.reset()
        self.rewards[:] = rewards
        if self._observer is not None:
            self._observe(self._observer, into)
        return finished

    def _observe(self, observer: JointObserver, into: Observations) -> None:
        observer.observe(into.rows, [game.caption for game in self._of_nethack])
        add_shown(observer.maps, self._seen, self._room)

    def set_policy_version(self, version: int) -> None:
        """Note which version of the policy acts from here on."""
        for environment in self._environments:
            environment.policy_version = version

    def close(self) -> None:
        """Close every game."""
        for environment in self._environments:
            environment.close()
