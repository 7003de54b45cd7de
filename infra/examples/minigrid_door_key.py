"""MiniGrid's DoorKey as tasks whose events are told in words; needs ``pip install minigrid``.

Try it with ``onibus learn --import onibus.infra.examples.minigrid_door_key --task minigrid-doorkey-8x8``, and
beside it ``onibus annotate --spec infra/examples/minigrid-door-key.toml``.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium as gym
import torch
from minigrid.core.constants import OBJECT_TO_IDX, STATE_TO_IDX
from minigrid.wrappers import ImgObsWrapper
from torch import Tensor, nn

import onibus

SIZES = ("5x5", "6x6", "8x8", "16x16")
HAND, AHEAD = (3, 6), (3, 5)
"""Where the player's view, (7, 7, 3) of kind, colour and state, has what is carried and what lies ahead."""
KEY, DOOR, GOAL = (OBJECT_TO_IDX[name] for name in ("key", "door", "goal"))
OPEN, LOCKED = STATE_TO_IDX["open"], STATE_TO_IDX["locked"]
PICK_UP, TOGGLE = 3, 5


def say(step: onibus.Transition) -> str | None:
    """What a step brought about, from the views before and after it."""
    before, after = step.before, step.after
    if step.terminated and step.reward > 0:
        return "You reach the green goal."
    if step.action == PICK_UP:
        taken = before[HAND][0] != KEY and after[HAND][0] == KEY
        return "You pick up the key." if taken else "There is nothing to pick up here."
    if step.action == TOGGLE:
        return _at_the_door(tuple(before[AHEAD]), tuple(after[AHEAD]))
    for kind, said in ((KEY, "You see a key."), (GOAL, "You see the green goal.")):
        if _sees(after, kind) and not _sees(before, kind):
            return said
    return None


def _at_the_door(before: tuple[int, ...], after: tuple[int, ...]) -> str:
    if before[0] != DOOR:
        return "There is nothing to open here."
    if after[2] == LOCKED:
        return "The door is locked."
    if before[2] == LOCKED:
        return "You unlock the door with the key, and it opens."
    return "The door opens." if after[2] == OPEN else "The door closes."


def _sees(view: Any, kind: int) -> bool:
    lying = view[..., 0] == kind
    return bool(lying.sum() > lying[HAND])


class Network(nn.Module):
    """(B, 7, 7, 3) codes to (B, 128): each code has a meaning of its own, so they are embedded."""

    def __init__(self, space: gym.spaces.Dict) -> None:
        super().__init__()
        del space
        self.codes = nn.ModuleList(nn.Embedding(count, 16) for count in (12, 8, 4))
        self.layers = nn.Sequential(
            *(nn.Conv2d(16, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU(), nn.Flatten()),
            *(nn.Linear(32 * 3 * 3, 128), nn.ReLU()),
        )

    def forward(self, observation: dict[str, Tensor]) -> Tensor:
        codes = observation["obs"].int()
        embedded = torch.stack([embed(codes[..., k]) for k, embed in enumerate(self.codes)]).sum(0)
        features: Tensor = self.layers(embedded.permute(0, 3, 1, 2))
        return features


def make(size: str) -> gym.Env[Any, Any]:
    """MiniGrid-DoorKey of a size; its text observation, the mission, is always the same and left out."""
    only_image: Any = ImgObsWrapper
    made: gym.Env[Any, Any] = only_image(gym.make(f"MiniGrid-DoorKey-{size}-v0"))
    return made


for size in SIZES:
    onibus.register_task(
        f"minigrid-doorkey-{size}",
        partial(make, size),
        captioner=say,
        spec="minigrid-door-key",
        encoder=Network,
    )
