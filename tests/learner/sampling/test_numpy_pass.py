"""The pass in NumPy, beside the network itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from nle.nethack import MAX_GLYPH
from sample_factory.algo.utils.context import global_model_factory
from sample_factory.model.actor_critic import create_actor_critic
from sample_factory.model.model_utils import get_rnn_size
from torch import nn

from onibus.learner.configuration import configuration
from onibus.learner.networks import make_encoder
from onibus.learner.options import make_options
from onibus.learner.sampling.acting_policy import _pass_of
from onibus.learner.sampling.numpy_pass import NumpyPass, has_numpy_pass
from onibus.producers.nethack.observations import Observation, observation_space

GAMES, ACTIONS = 7, 23


def policy(tmp_path: Path, network: str, **changes: Any) -> Any:
    options = make_options("score", run="numpy", reward="none", network=network)
    cfg = configuration(options, tmp_path, session=0)
    for name, value in changes.items():
        setattr(cfg, name, value)
    global_model_factory().register_encoder_factory(make_encoder)
    space = observation_space(network != "small", network == "full", captions=True)
    torch.manual_seed(1)
    return create_actor_critic(cfg, space, gym.spaces.Discrete(ACTIONS)).eval()


def seen(seed: int = 0) -> Observation:
    draw = np.random.default_rng(seed)
    glyphs = {"crop": (GAMES, 9, 9), "glyphs": (GAMES, 21, 79)}
    seen: Observation = {
        name: draw.integers(MAX_GLYPH + 1, size=shape).astype(np.int16) for name, shape in glyphs.items()
    }
    seen["crop"][0, 0, :2] = 0, MAX_GLYPH
    message = draw.integers(256, size=(GAMES, 256)).astype(np.uint8)
    return seen | {"blstats": draw.normal(size=(GAMES, 27)).astype(np.float32), "message": message}


def assert_same(its_pass: Callable[..., Any], network: Any, observation: Observation) -> None:
    states = np.full((GAMES, get_rnn_size(network.cfg)), 0.5, np.float32)
    with torch.no_grad():
        logits, values, new_states = its_pass(observation, states)
        tensors = {name: torch.from_numpy(rows) for name, rows in observation.items()}
        said = network(tensors, torch.from_numpy(states))
    np.testing.assert_allclose(logits, said["action_logits"], atol=1e-5)
    np.testing.assert_allclose(values[:, 0], said["values"], atol=1e-5)
    np.testing.assert_allclose(new_states, said["new_rnn_states"], atol=1e-5)


@pytest.mark.parametrize("network", ["small", "medium"])
def test_it_says_what_the_network_says(tmp_path: Path, network: str) -> None:
    its = policy(tmp_path, network)
    nn.init.normal_(its.critic_linear.bias)  # as they are after some learning
    nn.init.normal_(its.encoder.mix[0].bias)
    assert has_numpy_pass(its)
    by_numpy = NumpyPass(its, GAMES)
    for seed in range(3):  # its arrays are used again and again
        assert_same(by_numpy, its, seen(seed))


def test_weights_that_are_changed_or_replaced_are_used(tmp_path: Path) -> None:
    its = policy(tmp_path, "medium")
    by_numpy = NumpyPass(its, GAMES)
    with torch.no_grad():
        for parameter in its.parameters():
            parameter.add_(torch.randn_like(parameter) / 10)
    assert_same(by_numpy, its, seen())
    for parameter in its.parameters():
        parameter.data = torch.randn_like(parameter) / 10
    by_numpy.take_weights()
    assert_same(by_numpy, its, seen())


@pytest.mark.parametrize(
    ("network", "changes"),
    [
        ("full", {}),
        ("small", {"use_rnn": True}),
        ("small", {"decoder_mlp_layers": [32]}),
        ("medium", {"actor_critic_share_weights": False}),
    ],
)
def test_other_networks_are_left_to_pytorch(tmp_path: Path, network: str, changes: dict[str, Any]) -> None:
    its = policy(tmp_path, network, **changes)
    assert not has_numpy_pass(its)
    observation, states = seen(), np.zeros((GAMES, get_rnn_size(its.cfg)), np.float32)
    assert_same(_pass_of(its, observation, states), its, observation)


def test_other_precisions_are_left_to_pytorch(tmp_path: Path) -> None:
    assert not has_numpy_pass(policy(tmp_path, "small").double())
