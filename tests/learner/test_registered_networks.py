"""The default network of registered tasks: what it sees in an observation."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import torch
from torch import nn

from onibus.learner.registered_networks import SpaceEncoder
from onibus.producers.environments.spaces import TextBytes


def test_a_policy_can_tell_texts_apart() -> None:
    """Four instructions whose letters are the same, one direction each."""
    torch.manual_seed(0)
    space = TextBytes(64)
    texts = ["go to the red door", "red: go to the door", "the door to go: red", "to the door, go, red"]
    batch = {"mission": torch.from_numpy(np.stack([space.bytes_of(text) for text in texts]))}
    assert batch["mission"].dtype == torch.uint8
    network = SpaceEncoder(gym.spaces.Dict({"mission": space}), 32)
    head = nn.Linear(32, len(texts))
    optimizer = torch.optim.Adam([*network.parameters(), *head.parameters()], 3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(head(network(batch)), torch.arange(len(texts)))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert head(network(batch)).argmax(1).tolist() == [0, 1, 2, 3]
    assert network({"mission": torch.zeros((3, 64), dtype=torch.uint8)}).shape == (3, 32)
