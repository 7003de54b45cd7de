"""Policy networks for registered tasks: by the space of their observations, or the user's own."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from sample_factory.model.encoder import Encoder
from torch import Tensor, nn

from onibus.infra.errors import OnibusError
from onibus.infra.plugins import failure_of
from onibus.producers.environments.spaces import CAPTION, TextBytes
from onibus.producers.environments.tasks import RegisteredTask

SMALL_WIDTH, FULL_WIDTH = 128, 512
_LARGEST = 1e6
"""Bounds beyond this say nothing of usual values."""
_LETTER = 16
"""Numbers that a byte of a text is embedded in."""
_SMALLEST_SIDE = 8
"""An image's shorter side is halved down to this."""


def registered_encoder(cfg: Any, space: gym.spaces.Dict, task: RegisteredTask) -> Encoder:
    """The encoder of a registered task for Sample Factory.

    Args:
        cfg: Sample Factory's configuration; ``network`` is small or full.
        space: of the observations, :data:`CAPTION` among them or not.
        task: whose own encoder is used, if it has one.

    Raises:
        OnibusError: the task's own encoder does not fit.
    """
    seen = gym.spaces.Dict({name: box for name, box in space.items() if name != CAPTION})
    if task.encoder is None:
        return _RegisteredEncoder(
            cfg, seen, SpaceEncoder(seen, SMALL_WIDTH if cfg.network == "small" else FULL_WIDTH)
        )
    what = f"the encoder of task {task.name}, in {task.module},"
    try:
        network = task.encoder(seen)
        with torch.no_grad():
            features = network({name: _zeros(box) for name, box in seen.items()})
    except Exception as error:
        raise failure_of(what, error) from error
    if not isinstance(features, Tensor) or features.dim() != 2 or len(features) != 1:
        raise OnibusError(f"{what} must give features of shape (B, F) for a batch of B observations")
    return _RegisteredEncoder(cfg, seen, network)


def _zeros(box: gym.Space[Any]) -> Tensor:
    return torch.from_numpy(np.zeros((1, *(box.shape or ())), box.dtype))


class _RegisteredEncoder(Encoder):  # type: ignore[misc]
    """A network as Sample Factory holds it. Captions are no part of what the policy sees."""

    def __init__(self, cfg: Any, space: gym.spaces.Dict, network: nn.Module) -> None:
        super().__init__(cfg)
        self.network = network
        self._names = tuple(space)
        self._types = {name: torch.from_numpy(np.zeros(0, box.dtype)).dtype for name, box in space.items()}
        with torch.no_grad():
            self._size = int(network({name: _zeros(box) for name, box in space.items()}).shape[1])

    def get_out_size(self) -> int:
        """Length of the feature vector."""
        return self._size

    def type_for_input_tensor(self, input_tensor_name: str) -> torch.dtype:
        """dtype of an observation on its way in; Sample Factory's default would widen all to float32."""
        return torch.int64 if input_tensor_name == CAPTION else self._types[input_tensor_name]

    def forward(self, observation: dict[str, Tensor]) -> Tensor:
        features: Tensor = self.network({name: observation[name] for name in self._names})
        return features


class SpaceEncoder(nn.Module):
    """A network for any arrays: (B, …) tensors by name to (B, width).

    What has three dimensions is an image, the smallest of its first and last dimension the channels; it goes
    through convolutions, as do the bytes of a text. All else goes through linear layers. Values are brought
    near [-1, 1] by the bounds of their space or, where it has none, by ``sign(x) * log(1 + |x|)``.
    """

    def __init__(self, space: gym.spaces.Dict, width: int) -> None:
        super().__init__()
        self._names = tuple(space)
        self.parts = nn.ModuleList(_part(box, width) for box in space.values())
        self.mix = nn.Sequential(nn.Linear(width * len(self._names), width), nn.ReLU())

    def forward(self, observation: dict[str, Tensor]) -> Tensor:
        features = [part(observation[name]) for name, part in zip(self._names, self.parts, strict=True)]
        mixed: Tensor = self.mix(torch.cat(features, dim=1))
        return mixed


def _part(box: gym.Space[Any], width: int) -> nn.Module:
    if isinstance(box, TextBytes):
        return _TextEncoder(width)
    assert isinstance(box, gym.spaces.Box)
    if len(box.shape) != 3:
        size = int(np.prod(box.shape, dtype=np.int64))
        return nn.Sequential(
            _Scaled(box), nn.Flatten(), nn.Linear(size, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
        )
    last = box.shape[2] <= box.shape[0]
    height, breadth, channels = box.shape if last else (*box.shape[1:], box.shape[0])
    layers: list[nn.Module] = [_Scaled(box), *([_ChannelsFirst()] if last else [])]
    filters, side = 16, min(height, breadth)
    while side > _SMALLEST_SIDE:
        layers += [nn.Conv2d(channels, filters, 3, stride=2, padding=1), nn.ReLU()]
        channels, filters, side = filters, 32, -(-side // 2)
        height, breadth = -(-height // 2), -(-breadth // 2)
    layers += [nn.Conv2d(channels, 32, 3, padding=1), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(32 * height * breadth, width), nn.ReLU())


class _TextEncoder(nn.Module):
    """Bytes of a text, uint8 (B, L), to (B, width): what stands anywhere in it counts once."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.letters = nn.Embedding(256, _LETTER, padding_idx=0)
        self.words = nn.Sequential(
            nn.Conv1d(_LETTER, 32, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv1d(32, 64, 5, padding=2),
            nn.ReLU(),
        )
        self.mix = nn.Sequential(nn.Linear(64, width), nn.ReLU())

    def forward(self, text: Tensor) -> Tensor:
        found: Tensor = self.words(self.letters(text.long()).transpose(1, 2)).amax(2)
        mixed: Tensor = self.mix(found)
        return mixed


class _ChannelsFirst(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image.permute(0, 3, 1, 2)


class _Scaled(nn.Module):
    """Brings values near [-1, 1], as float32."""

    def __init__(self, box: gym.spaces.Box) -> None:
        super().__init__()
        low, high = box.low.astype(np.float32), box.high.astype(np.float32)
        bounded = (np.abs(low) < _LARGEST) & (np.abs(high) < _LARGEST) & (high > low)
        low, high = np.where(bounded, low, -1), np.where(bounded, high, 1)
        self._bounded = bool(bounded.all())
        self.register_buffer("low", torch.from_numpy(low.astype(np.float32)), persistent=False)
        self.register_buffer("span", torch.from_numpy((high - low).astype(np.float32)), persistent=False)
        self.register_buffer("bounded", torch.from_numpy(bounded), persistent=False)
        self.low: Tensor
        self.span: Tensor
        self.bounded: Tensor

    def forward(self, values: Tensor) -> Tensor:
        values = values.float()
        stretched = (values - self.low) / self.span * 2.0 - 1.0
        if self._bounded:
            return stretched
        return torch.where(self.bounded, stretched, values.sign() * values.abs().log1p())
