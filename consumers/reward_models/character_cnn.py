"""The character CNN that judges a caption by its bytes; usual sizes as published with ONI (arXiv 2410.23022).

With two outputs it tells helpful from unhelpful captions, with one it scores them (Bradley-Terry).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

CAPTION_BYTES = 256
"""Bytes of a caption that the network sees. What is longer is cut off there, in training and in judging
alike, so two captions that differ only later get the same reward. (A byte 0 fills up shorter ones.)"""

UNHELPFUL_CLASS, HELPFUL_CLASS = 0, 1

CLASSES = 2
SCORE = 1
"""Outputs of a network that tells classes apart, and of one that scores."""

_CAPTIONS_AT_A_TIME = 256


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of a character CNN; ``pooled_after`` names the convolutions that a max-pool of ``pool`` follows."""

    embedding: int
    channels: int
    kernels: tuple[int, ...]
    pooled_after: tuple[int, ...]
    hidden: int
    pool: int = 3


PUBLISHED = Sizes(32, 64, (7, 7, 3, 3, 3, 3), (0, 1, 5), 128)
NETWORKS = {
    "published": PUBLISHED,
    "small": Sizes(16, 32, (7, 5, 3), (0, 1, 2), 64),
    "large": Sizes(64, 128, (7, 7, 3, 3, 3, 3), (0, 1, 5), 256),
}
"""Networks by the name that a user gives; online trainers use the published one."""


def architecture(outputs: int, sizes: Sizes = PUBLISHED) -> str:
    """Everything that weights must agree with to be loaded into :class:`CharacterCNN`, as JSON."""
    told = asdict(sizes) | {"name": "character-cnn", "caption_bytes": CAPTION_BYTES, "outputs": outputs}
    return json.dumps(told, sort_keys=True)


def sizes_of(told: str, outputs: int) -> Sizes | None:
    """Sizes of the network with that many outputs whose :func:`architecture` is told; None: not ours."""
    return next((sizes for sizes in NETWORKS.values() if architecture(outputs, sizes) == told), None)


class CharacterCNN(nn.Module):
    """Bytes (n, 256) uint8 to outputs (n, ``outputs``) float32. 142,082 parameters as published, two outputs.

    Two outputs are the logits of unhelpful and helpful; one is a score whose differences count.
    """

    def __init__(self, outputs: int = CLASSES, sizes: Sizes = PUBLISHED) -> None:
        super().__init__()
        self.embedding = nn.Embedding(256, sizes.embedding)
        layers: list[nn.Module] = []
        channels, length = sizes.embedding, CAPTION_BYTES
        for place, kernel in enumerate(sizes.kernels):
            layers += [nn.Conv1d(channels, sizes.channels, kernel), nn.ReLU()]
            channels, length = sizes.channels, length - kernel + 1
            if place in sizes.pooled_after:
                layers.append(nn.MaxPool1d(sizes.pool))
                length //= sizes.pool
        self.convolutions = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels * length, sizes.hidden),
            nn.ReLU(),
            nn.Linear(sizes.hidden, outputs),
        )

    def forward(self, captions: Tensor) -> Tensor:
        """Outputs (n, outputs) of captions (n, 256) uint8."""
        embedded = self.embedding(captions.long()).transpose(1, 2)
        logits: Tensor = self.head(self.convolutions(embedded))
        return logits


def to_bytes(caption: str) -> bytes:
    """The UTF-8 bytes of a caption that the network sees: the first 256."""
    return caption.encode()[:CAPTION_BYTES]


def to_rows(captions: Sequence[bytes]) -> NDArray[np.uint8]:
    """Captions as :func:`to_bytes` gives them, as an array (n, 256) uint8."""
    joined = b"".join(caption.ljust(CAPTION_BYTES, b"\0") for caption in captions)
    return np.frombuffer(joined, np.uint8).reshape(len(captions), CAPTION_BYTES)


def helpful_probability(network: CharacterCNN, rows: NDArray[np.uint8]) -> NDArray[np.float32]:
    """p(helpful) of each caption under a network with two outputs: float32 (n,) for rows (n, 256) uint8."""
    return _in_parts(lambda captions: network(captions).softmax(dim=1)[:, HELPFUL_CLASS], network, rows)


def caption_scores(network: CharacterCNN, rows: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Score of each caption under a network with one output: float32 (n,) for rows (n, 256) uint8."""
    return _in_parts(lambda captions: network(captions)[:, 0], network, rows)


@torch.no_grad()
def _in_parts(
    judge: Callable[[Tensor], Tensor], network: CharacterCNN, rows: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """``judge`` of all rows, computed where the network is, so many at a time that memory stays small."""
    device = next(network.parameters()).device
    parts = [
        judge(torch.tensor(rows[start : start + _CAPTIONS_AT_A_TIME]).to(device)).cpu().numpy()
        for start in range(0, len(rows), _CAPTIONS_AT_A_TIME)
    ]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)
