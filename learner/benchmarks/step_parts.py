"""Parts of a step that onibus has in a form of its own, each beside the library's, in turn in one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import cache
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from nle.env.tasks import NetHackScore
from nle.nethack import BLSTATS_SHAPE, DUNGEON_SHAPE, MESSAGE_SHAPE
from sample_factory.algo.utils.context import global_model_factory
from sample_factory.model.actor_critic import create_actor_critic
from torch import Tensor, nn

import onibus.learner.quiet_libraries  # noqa: F401
from onibus.learner.benchmarks.result import Figure
from onibus.learner.configuration import configuration
from onibus.learner.large_layers import LargeLinear, ManyLookups
from onibus.learner.networks import GLYPHS, MediumEncoder, NetHackEncoder, SmallEncoder, make_encoder
from onibus.learner.options import make_options
from onibus.learner.sampling.games import Games, Observations
from onibus.learner.sampling.numpy_pass import NumpyPass
from onibus.producers.nethack.environment import NetHackEnvironment
from onibus.producers.nethack.hearing_game import hearing
from onibus.producers.nethack.observations import JointObserver, Observation, Observer, observation_space
from onibus.producers.nethack.seeding import Seeds, reset_with_seeds
from onibus.producers.nethack.tasks import OBSERVATION_KEYS

ROWS = 1_024
"""Of a batch."""
ACTING = 32
"""Of a pass that chooses actions."""
_STEPS = 2_000
_ACTIONS = 23
"""Of NLE's task ``score``."""
_BEFORE = 200
"""Steps of each game before its observations count: at the beginning they are all alike."""


def measure(rounds: int) -> list[Figure]:
    """Microseconds of processor time, ours and the library's, and the medians' ratio; on one core."""
    torch.set_num_threads(1)
    return [
        *_beside("a step of NetHack's score task, NLE's 23 actions", "NLE", "step", _steps(), rounds),
        *_beside("small encoder, forward and backward", "PyTorch", "row", _passes(SmallEncoder), rounds),
        *_beside("medium encoder, forward and backward", "PyTorch", "row", _passes(MediumEncoder), rounds),
        *_beside(f"small network, pass for {ACTING} games", "PyTorch", "game", _acting(), rounds),
        *_beside(f"observations of {ACTING} games", "one by one", "game", _observing(), rounds),
    ]


Sides = tuple[Callable[[], float], Callable[[], float]]
"""Ours and the library's: each does its work once and returns the microseconds of one item."""


def _beside(name: str, library: str, item: str, sides: Sides, rounds: int) -> list[Figure]:
    for side in sides:
        side()
    turns = [(sides[0](), sides[1]()) for _ in range(rounds)]
    ours, theirs = (statistics.median(times) for times in zip(*turns, strict=True))
    return [
        Figure(f"{name}: {library}", theirs, f"µs of CPU a {item}"),
        Figure(f"{name}: ours", ours, f"µs of CPU a {item}"),
        Figure.at_most(f"{name}: ours ÷ {library}", ours / theirs, "ratio", 1.0),
    ]


def _steps() -> Sides:
    """Random play of the same games on both sides, the time of new games left out."""

    def of(task: Callable[..., Any]) -> Callable[[], float]:
        env = task(observation_keys=OBSERVATION_KEYS, fix_moon_phase=True)
        actions, games = np.random.default_rng(0), count(1)

        def begin() -> None:
            reset_with_seeds(env, Seeds(next(games), 1, 0))

        def play() -> float:
            chosen, spent = actions.integers(env.action_space.n, size=_STEPS).tolist(), 0.0
            began = time.process_time()
            for action in chosen:
                if env.step(action)[2]:
                    spent += time.process_time() - began
                    begin()
                    began = time.process_time()
            return (spent + time.process_time() - began) / _STEPS * 1e6

        begin()
        return play

    return of(hearing(NetHackScore)), of(NetHackScore)


def _passes(encoder: type[NetHackEncoder]) -> Sides:
    def of(network: nn.Module) -> Callable[[], float]:
        seen = _played(ROWS)

        def train() -> float:
            began = time.process_time()
            network(seen).sum().backward()
            return (time.process_time() - began) / ROWS * 1e6

        return train

    return of(_made(encoder)), of(_plain(_made(encoder)))


def _acting() -> Sides:
    """A pass without what NumPy saves most: after the games, little of PyTorch is in the caches."""
    options = make_options("score", run="step-parts", reward="none", network="small")
    global_model_factory().register_encoder_factory(make_encoder)
    network = create_actor_critic(
        configuration(options, Path(), session=0),
        observation_space(glyphs=False, message=False, captions=False),
        gym.spaces.Discrete(_ACTIONS),
    ).eval()
    played, states = _played(ACTING), torch.zeros(ACTING, 1)
    seen = {name: played[name] for name in ("blstats", "crop")}
    arrays, by_numpy = {name: rows.numpy() for name, rows in seen.items()}, NumpyPass(network, ACTING)

    _plain(network.encoder)

    def by_pytorch() -> object:
        features = network.decoder(network.forward_core(network.forward_head(seen), states)[0])
        return network.action_parameterization.distribution_linear(features), network.critic_linear(features)

    return _each(lambda: by_numpy(arrays, states.numpy())), _each(by_pytorch)


def _each(work: Callable[[], object]) -> Callable[[], float]:
    """Times ``work``, which is done for :data:`ACTING` games at once."""

    def repeat() -> float:
        began = time.process_time()
        with torch.inference_mode():
            for _ in range(ACTING):
                work()
        return (time.process_time() - began) / ACTING / ACTING * 1e6

    return repeat


def _observing() -> Sides:
    """All at once, and with an observer for each game."""
    draw = np.random.default_rng(0)
    raws = [
        {
            "blstats": draw.integers(20, size=BLSTATS_SHAPE),
            "glyphs": draw.integers(GLYPHS, size=DUNGEON_SHAPE).astype(np.int16),
            "message": np.zeros(MESSAGE_SHAPE, np.uint8),
        }
        for _ in range(ACTING)
    ]
    rows, space = _room(glyphs=False, captions=True), observation_space(False, message=False, captions=True)
    joint, single, captions = JointObserver(raws), Observer(space), [(1, 1)] * ACTING

    return (
        _each(lambda: joint.observe(rows, captions)),
        _each(lambda: [single.observe(raw, (1, 1)) for raw in raws]),
    )


def _made(encoder: type[NetHackEncoder]) -> nn.Module:
    return encoder(SimpleNamespace(nonlinearity="relu"))


class _PlainLookups(nn.Embedding):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.int())


def _plain(network: nn.Module) -> nn.Module:
    """The same network with PyTorch's own layers, one after another."""
    assert isinstance(network, SmallEncoder)
    crop, glyph = network.crop, network.glyph
    network.surroundings = lambda seen: crop(glyph(seen))  # type: ignore[assignment, method-assign]
    if isinstance(network, MediumEncoder):
        whole, squares = network.map, network.squares
        network.whole = lambda seen: whole(squares.numbers[squares(seen).long()].flatten(1))  # type: ignore[assignment, method-assign]
    for layer in network.modules():
        if isinstance(layer, LargeLinear):
            layer.__class__ = nn.Linear  # type: ignore[assignment]
        elif isinstance(layer, ManyLookups):
            layer.__class__ = _PlainLookups  # type: ignore[assignment]
    return network


@cache
def _played(rows: int) -> dict[str, Tensor]:
    """Observations of random games that have been going on for a while."""
    environments = [
        NetHackEnvironment(task="score", observation="medium", captions=False, environment=number, seed=0)
        for number in range(ACTING)
    ]
    games, draw, steps = Games(environments), np.random.default_rng(0), rows // ACTING
    seen = [Observations(_room(glyphs=True, captions=False)) for _ in range(steps)]
    games.reset(range(ACTING), [0] * ACTING, seen[0])
    for step in range(_BEFORE + steps):
        games.step(draw.integers(_ACTIONS, size=ACTING).tolist(), seen[max(0, step - _BEFORE)])
    games.close()
    return {name: torch.from_numpy(np.concatenate([one.rows[name] for one in seen])) for name in seen[0].rows}


def _room(glyphs: bool, captions: bool) -> Observation:
    space = observation_space(glyphs, message=False, captions=captions)
    return {name: np.zeros((ACTING, *box.shape), box.dtype) for name, box in space.items()}  # type: ignore[misc]
