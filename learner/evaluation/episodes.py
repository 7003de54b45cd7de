"""Games of an evaluation: which they are, and playing them.

Episode i of an evaluation is the same game for every checkpoint, and none that training or `onibus rollout`
plays: those make seeds for rollout workers from 0, an evaluation for the worker :data:`EVALUATION_WORKER`
(:func:`onibus.producers.nethack.seeding.episode_seeds`). Which episodes are played is settled before the
first step. The first N that end, of games side by side, would be short ones more often.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onibus.infra.errors import OnibusError
from onibus.learner.checkpoint_policy import CheckpointPolicy
from onibus.learner.options import LearnOptions
from onibus.learner.run_environment import environment_for
from onibus.producers.publishing.caption import Caption
from onibus.schemas.records import EpisodeFinished

EVALUATION_WORKER = -1
"""Takes the place of a rollout worker's number in the seeds; theirs begin with 0."""


@dataclass(slots=True)
class PlayedEpisode:
    """One game of an evaluation.

    Attributes:
        index: its number in the evaluation, from 0.
        figures: return, episode_steps, and whatever else the environment reports of an episode.
        end: how it ended; empty where that is not known. cause_of_death: what the game says of a death.
        captions: how often each caption came up.
        record: what plays it again, where it was asked for and the game was not too long for one.
    """

    index: int
    figures: dict[str, float] = field(default_factory=dict)
    end: str = ""
    cause_of_death: str = ""
    captions: Counter[str] = field(default_factory=Counter)
    record: EpisodeFinished | None = None


class _Listener:
    """Stands where rollout workers have the bus: it hears what they would publish, and publishes nothing."""

    def __init__(self) -> None:
        self.captions: dict[int, Counter[Caption]] = {}
        self.records: dict[int, EpisodeFinished] = {}

    def attach(self) -> None:
        """One more environment."""

    def detach(self) -> None:
        """One fewer."""

    def observe(self, caption: Caption, _worker: int, environment: int, *_where: int) -> None:
        """Count a caption."""
        self.captions.setdefault(environment, Counter())[caption] += 1

    def episode_finished(self, record: EpisodeFinished) -> None:
        """Keep what a record says."""
        self.records[record.environment] = record


class _Game:
    """One environment, and the episode that it plays now."""

    def __init__(
        self, options: LearnOptions, slot: int, seed: int, listener: _Listener, record: bool
    ) -> None:
        self._seed, self._listener, self._record = seed, listener, record
        self.environment = environment_for(
            options, worker=EVALUATION_WORKER, environment=slot, seed=seed, bus=lambda: listener
        )
        self.episode = PlayedEpisode(-1)
        self.random = np.random.default_rng()

    def begin(self, index: int) -> dict[str, NDArray[Any]]:
        """Begin episode ``index``; its seeds and its random numbers follow from that and the base seed."""
        self.environment.environment, self.environment.episode = index, -1
        self.episode = PlayedEpisode(index, {"return": 0.0, "episode_steps": 0.0})
        self.random = np.random.default_rng([self._seed, index])
        observation: dict[str, NDArray[Any]] = self.environment.reset()[0]
        return observation

    def step(self, action: Any) -> tuple[dict[str, NDArray[Any]], bool]:
        """One action; whether it ended the episode, which then is complete."""
        observation, reward, terminated, truncated, info = self.environment.step(action)
        figures = self.episode.figures
        figures["return"] += reward
        figures["episode_steps"] += 1
        if not (terminated or truncated):
            return observation, False
        figures.update(info["episode_extra_stats"])
        index = self.episode.index
        for caption, count in self._listener.captions.pop(index, Counter()).items():
            self.episode.captions[caption.text] += count
        if (record := self._listener.records.pop(index, None)) is not None:
            self.episode.end, self.episode.cause_of_death = record.end, record.cause_of_death
            self.episode.record = record if self._record else None
        return observation, True


def play(
    policy: CheckpointPolicy,
    indices: Sequence[int],
    *,
    environments: int,
    seed: int,
    greedy: bool,
    device: str,
    record: bool = False,
) -> Iterator[PlayedEpisode]:
    """Play the episodes ``indices`` with a policy, ``environments`` at a time; each when it has ended.

    Args:
        policy: not bound yet.
        indices: numbers of episodes; each environment plays every ``environments``-th.
        seed: base seed of the evaluation, 0 or more.
        greedy: take the likeliest action instead of sampling.
        device: torch's name of where the network runs.
        record: whether episodes come with their records.

    Raises:
        OnibusError: the policy does not fit its task.
    """
    listener = _Listener()
    games: list[_Game] = []
    try:
        slots = range(min(environments, len(indices)))
        games.extend(_Game(policy.options, slot, seed, listener, record) for slot in slots)
        _bind(policy, games[0], device)
        yield from _play(policy, games, indices, greedy)
    finally:
        for game in games:
            game.environment.close()


def _bind(policy: CheckpointPolicy, game: _Game, device: str) -> None:
    game.environment.policy_version = policy.version
    try:
        policy.bind(game.environment, device)
    except RuntimeError as error:  # what torch raises for weights of another shape
        raise OnibusError(
            f"the checkpoint of run {policy.options.run} cannot play {policy.options.task} "
            f"({str(error).splitlines()[0]}); give another checkpoint"
        ) from error


def _play(
    policy: CheckpointPolicy, games: Sequence[_Game], indices: Sequence[int], greedy: bool
) -> Iterator[PlayedEpisode]:
    count = len(games)
    left = [list(indices[slot::count]) for slot in range(count)]
    observations = [game.begin(left[slot].pop(0)) for slot, game in enumerate(games)]
    started = np.ones(count, np.bool_)
    active = list(range(count))
    while active:
        stacked = {key: np.stack([o[key] for o in observations]) for key in observations[0]}
        logits = policy.logits(stacked, started)
        if not policy.is_discrete:
            actions: Sequence[Any] = list(_continuous(logits, games, greedy))
        else:
            actions = (logits.argmax(axis=1) if greedy else _sampled(logits, games)).tolist()
        started[:] = False
        for slot in tuple(active):
            observations[slot], ended = games[slot].step(actions[slot])
            if not ended:
                continue
            yield games[slot].episode
            if left[slot]:
                observations[slot] = games[slot].begin(left[slot].pop(0))
                started[slot] = True
            else:
                active.remove(slot)


def _sampled(logits: NDArray[np.float64], games: Sequence[_Game]) -> NDArray[np.int64]:
    """An action each, int64 (N,), by the inverse of the distribution and each game's own generator."""
    weights = np.exp(logits - logits.max(axis=1, keepdims=True)).cumsum(axis=1)
    drawn = np.array([game.random.random() for game in games]) * weights[:, -1]
    actions: NDArray[np.int64] = (weights <= drawn[:, None]).sum(axis=1)
    return actions


def _continuous(parameters: NDArray[np.float64], games: Sequence[_Game], greedy: bool) -> NDArray[np.float32]:
    """An action each, float32 (N, n), of normal distributions, with each game's own generator.

    Args:
        parameters: (N, 2 n), means and logarithms of deviations, as Sample Factory's network gives them.
        games: the games.
        greedy: take the means.
    """
    means, logarithms = np.split(parameters, 2, axis=1)
    if greedy:
        return means.astype(np.float32)
    drawn = np.stack([game.random.standard_normal(means.shape[1]) for game in games])
    actions: NDArray[np.float32] = (means + np.exp(logarithms) * drawn).astype(np.float32)
    return actions
