"""Playing for tests: an environment's records in lists, and random actions that are always the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onibus.producers.nethack.environment import NetHackEnvironment
from onibus.producers.publishing.caption import Caption
from onibus.schemas.records import EpisodeFinished


@dataclass
class Memory:
    """Takes the place of the bus where a test is about the environment: remembers what it is told."""

    captions: list[tuple[Caption, int, int, int, int, int]] = field(default_factory=list)
    episodes: list[EpisodeFinished] = field(default_factory=list)

    def attach(self) -> None:
        pass

    def detach(self) -> None:
        pass

    def observe(self, caption: Caption, *place: int) -> None:
        worker, environment, episode, step, version = place
        self.captions.append((caption, worker, environment, episode, step, version))

    def episode_finished(self, record: EpisodeFinished) -> None:
        self.episodes.append(record)


def environment(task: str, memory: Memory | None = None, **options: Any) -> NetHackEnvironment:
    """An environment whose records go to ``memory``."""
    return NetHackEnvironment(task=task, bus=lambda: memory, **{"seed": 1, **options})  # type: ignore[arg-type,return-value]


@dataclass(frozen=True)
class Moment:
    """What one step gave."""

    step: int
    observation: dict[str, NDArray[Any]]
    reward: float
    terminated: bool
    truncated: bool
    info: dict[str, Any]

    @property
    def last(self) -> bool:
        return self.terminated or self.truncated


def moments(env: NetHackEnvironment, seed: int = 0) -> Iterator[Moment]:
    """Play one episode that has just been reset, with random actions, to its end."""
    rng = np.random.default_rng(seed)
    step = 0
    while True:
        step += 1
        moment = Moment(step, *env.step(int(rng.integers(env.action_space.n))))  # type: ignore[attr-defined]
        yield moment
        if moment.last:
            return


def play(env: NetHackEnvironment, seed: int = 0) -> Moment:
    """Play one whole episode; the last moment."""
    env.reset()
    *_, last = moments(env, seed)
    return last
