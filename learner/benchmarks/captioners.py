"""What captioners make of the same play: distinct captions, and what they add to the cost of a step."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack, closing

import numpy as np

from onibus.learner.benchmarks.result import Figure
from onibus.producers.nethack.environment import NetHackEnvironment

SEED, TURN = 0, 1_000
"""Seed of the games and actions; steps that one captioner's game plays before the next one's goes on."""


class _Player:
    """Random play with one captioner; the same games and actions for each."""

    def __init__(self, task: str, captioner: str) -> None:
        self.captioner = captioner
        self._environment = NetHackEnvironment(task=task, captioner=captioner, seed=SEED)
        self._actions = np.random.default_rng(SEED)
        self._count: int = self._environment.action_space.n  # type: ignore[attr-defined]
        self._environment.reset()
        self.ids: set[int] = set()
        self.captions = 0
        self.seconds = 0.0

    def play(self, steps: int) -> None:
        actions = self._actions.integers(self._count, size=steps).tolist()
        began = time.process_time()
        for action in actions:
            observation, _, terminated, truncated, _ = self._environment.step(action)
            lookup = observation["caption"].item(0)
            if lookup:
                self.captions += 1
                self.ids.add(lookup)
            if terminated or truncated:
                self._environment.reset()
        self.seconds += time.process_time() - began

    def close(self) -> None:
        self._environment.close()


def measure(task: str, steps: int, captioners: Sequence[str]) -> list[Figure]:
    """Of each captioner: distinct captions, the share of steps that have one, CPU time of a step.

    Args:
        task: one of NetHack's or MiniHack's.
        steps: random steps with each.
        captioners: their names.

    Raises:
        OnibusError: there is no such task or captioner.
    """
    with ExitStack() as games:
        players = [games.enter_context(closing(_Player(task, captioner))) for captioner in captioners]
        for begun in range(0, steps, TURN):
            for player in players:
                player.play(min(TURN, steps - begun))
    return [figure for player in players for figure in _figures(player, steps)]


def _figures(player: _Player, steps: int) -> list[Figure]:
    name = player.captioner
    return [
        Figure(f"{name}: distinct captions in {steps:,} steps", len(player.ids), ""),
        Figure(f"{name}: steps that have a caption", player.captions / steps, "share"),
        Figure(f"{name}: a step, with its game", player.seconds / steps * 1e6, "µs of CPU"),
    ]
