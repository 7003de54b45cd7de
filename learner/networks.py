"""Policy networks for NetHack observations, as Sample Factory encoders.

``small`` looks at the 9x9 crop of glyphs around the player and at the status line: made for a few CPU cores.
``medium`` also sees the whole map in coarse squares, for little more. ``full`` reads the whole map and the
message, and is followed by a GRU.
"""

from __future__ import annotations

from typing import Any

import torch
from nle import nethack
from sample_factory.model.encoder import Encoder
from torch import Tensor, nn

from onibus.learner.large_layers import LargeLinear, ManyLookups
from onibus.learner.linear_of_lookups import linear_of_lookups
from onibus.learner.map_squares import MapSquares
from onibus.learner.options import LearnOptions
from onibus.learner.registered_networks import registered_encoder

GLYPHS = int(nethack.MAX_GLYPH) + 1  # one more for "outside the map"
CROP_SIDE = 9
BLSTATS = 27
MESSAGE_BYTES = 128
"""The full network reads this many bytes of the 256 of a message; few are longer."""


def make_encoder(cfg: Any, observation_space: Any) -> Encoder:
    """The encoder that ``cfg.network`` names, or a registered task's.

    Sample Factory calls this in each process with a policy.
    """
    own = LearnOptions.model_validate(cfg.onibus).registered
    if own is not None:
        return registered_encoder(cfg, observation_space, own)
    encoders: dict[str, type[NetHackEncoder]]
    encoders = {"small": SmallEncoder, "medium": MediumEncoder, "full": FullEncoder}
    return encoders[cfg.network](cfg)


class NetHackEncoder(Encoder):  # type: ignore[misc]
    """What the encoders share: integers stay integers on their way to the embedding."""

    out_size: int

    def get_out_size(self) -> int:
        """Length of the feature vector."""
        return self.out_size

    def type_for_input_tensor(self, input_tensor_name: str) -> torch.dtype:
        """dtype of an observation on its way in; Sample Factory's default would widen all to float32."""
        return _DTYPES[input_tensor_name]


_DTYPES = {
    "blstats": torch.float32,
    "crop": torch.int16,
    "glyphs": torch.int16,
    "message": torch.uint8,
    "caption": torch.int64,
}


class SmallEncoder(NetHackEncoder):
    """Status line and glyph crop through linear layers: (B, 27) and (B, 9, 9) to (B, 128)."""

    out_size = 128

    def __init__(self, cfg: Any) -> None:
        super().__init__(cfg)
        width = 16
        self.glyph = ManyLookups(GLYPHS, width)
        self.status = _status_network()
        self.crop = nn.Sequential(nn.Flatten(), LargeLinear(CROP_SIDE * CROP_SIDE * width, 128), nn.ReLU())
        self.mix = nn.Sequential(nn.Linear(64 + 128, self.out_size), nn.ReLU())

    def forward(self, observation: dict[str, Tensor]) -> Tensor:
        mixed: Tensor = self.mix(torch.cat(self.parts(observation), dim=1))
        return mixed

    def parts(self, observation: dict[str, Tensor]) -> list[Tensor]:
        """Features of the status line, (B, 64), and of the crop, (B, 128)."""
        return [self.status(observation["blstats"]), self.surroundings(observation["crop"])]

    def surroundings(self, crop: Tensor) -> Tensor:
        """Features of the crop: integers (B, 9, 9) to (B, 128)."""
        return linear_of_lookups(crop, self.glyph.weight, the_linear(self.crop)).relu()


class MediumEncoder(SmallEncoder):
    """The same, and the kinds of things in coarse squares of the whole map: to (B, 128)."""

    def __init__(self, cfg: Any) -> None:
        super().__init__(cfg)
        self.squares = MapSquares()
        self.map = nn.Sequential(LargeLinear(self.squares.size, 64), nn.ReLU())
        self.mix = nn.Sequential(nn.Linear(64 + 128 + 64, self.out_size), nn.ReLU())

    def parts(self, observation: dict[str, Tensor]) -> list[Tensor]:
        """The same, and of the whole map, (B, 64)."""
        return [*super().parts(observation), self.whole(observation["glyphs"])]

    def whole(self, glyphs: Tensor) -> Tensor:
        """Features of the whole map: integers (B, 21, 79) to (B, 64)."""
        return linear_of_lookups(self.squares(glyphs), self.squares.numbers, the_linear(self.map)).relu()


class FullEncoder(NetHackEncoder):
    """Map, crop, status line and message: to (B, 512).

    Glyphs are embedded once and go through two convolution stacks (map: stride 2 twice; crop: none);
    message bytes are embedded and go through 1-D convolutions with max-pooling.
    """

    out_size = 512

    def __init__(self, cfg: Any) -> None:
        super().__init__(cfg)
        width = 32
        self.glyph = ManyLookups(GLYPHS, width)
        self.status = _status_network()
        self.crop = nn.Sequential(_convolutions(width, strides=(1, 1, 1)), nn.Flatten())
        self.map = nn.Sequential(_convolutions(width, strides=(2, 2, 1)), nn.Flatten())
        self.byte = nn.Embedding(256, 16, padding_idx=0)
        self.message = nn.Sequential(
            *(nn.Conv1d(16, 32, 7), nn.ReLU(), nn.MaxPool1d(3)),
            *(nn.Conv1d(32, 32, 7), nn.ReLU(), nn.MaxPool1d(3)),
            *(nn.Conv1d(32, 32, 3), nn.ReLU(), nn.AdaptiveMaxPool1d(3), nn.Flatten()),
        )
        features = 64 + 8 * CROP_SIDE * CROP_SIDE + 8 * 6 * 20 + 32 * 3
        self.mix = nn.Sequential(LargeLinear(features, self.out_size), nn.ReLU())

    def forward(self, observation: dict[str, Tensor]) -> Tensor:
        status = self.status(observation["blstats"])
        crop = self.crop(self.glyph(observation["crop"]).permute(0, 3, 1, 2))
        whole = self.map(self.glyph(observation["glyphs"]).permute(0, 3, 1, 2))
        text = self.byte(observation["message"][:, :MESSAGE_BYTES].int()).transpose(1, 2)
        mixed: Tensor = self.mix(torch.cat([status, crop, whole, self.message(text)], dim=1))
        return mixed


def _status_network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(BLSTATS, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())


def _convolutions(channels: int, strides: tuple[int, int, int]) -> nn.Sequential:
    first, second, third = strides
    return nn.Sequential(
        *(nn.Conv2d(channels, 16, 3, padding=1, stride=first), nn.ELU()),
        *(nn.Conv2d(16, 16, 3, padding=1, stride=second), nn.ELU()),
        *(nn.Conv2d(16, 8, 3, padding=1, stride=third), nn.ELU()),
    )


def the_linear(layers: nn.Sequential) -> nn.Linear:
    """The one linear layer among them."""
    (layer,) = (layer for layer in layers if isinstance(layer, nn.Linear))
    return layer
