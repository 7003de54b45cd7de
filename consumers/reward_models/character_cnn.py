"""The character CNN that judges a caption by its bytes; sizes as published with ONI (arXiv 2410.23022)."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

CAPTION_BYTES = 256
"""Bytes of a caption that the network sees. What is longer is cut off there, in training and in judging
alike, so two captions that differ only later get the same reward. (A byte 0 fills up shorter ones.)"""

UNHELPFUL_CLASS, HELPFUL_CLASS = 0, 1

_EMBEDDING, _CHANNELS, _HIDDEN, _CLASSES, _POOL = 32, 64, 128, 2, 3
_KERNELS = (7, 7, 3, 3, 3, 3)
_POOLED_AFTER = (0, 1, 5)
"""Convolutions that a max-pool follows."""
_CAPTIONS_AT_A_TIME = 256

ARCHITECTURE = json.dumps(
    {
        "name": "character-cnn",
        "caption_bytes": CAPTION_BYTES,
        "embedding": _EMBEDDING,
        "channels": _CHANNELS,
        "kernels": _KERNELS,
        "pooled_after": _POOLED_AFTER,
        "pool": _POOL,
        "hidden": _HIDDEN,
        "classes": _CLASSES,
    },
    sort_keys=True,
)
"""Everything that weights must agree with to be loaded into :class:`CharacterCNN`."""


class CharacterCNN(nn.Module):
    """Bytes (n, 256) uint8 to logits (n, 2) float32: unhelpful, helpful. 142,082 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(256, _EMBEDDING)
        layers: list[nn.Module] = []
        channels, length = _EMBEDDING, CAPTION_BYTES
        for place, kernel in enumerate(_KERNELS):
            layers += [nn.Conv1d(channels, _CHANNELS, kernel), nn.ReLU()]
            channels, length = _CHANNELS, length - kernel + 1
            if place in _POOLED_AFTER:
                layers.append(nn.MaxPool1d(_POOL))
                length //= _POOL
        self.convolutions = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels * length, _HIDDEN),
            nn.ReLU(),
            nn.Linear(_HIDDEN, _CLASSES),
        )

    def forward(self, captions: Tensor) -> Tensor:
        """Logits (n, 2) of captions (n, 256) uint8."""
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


@torch.no_grad()
def helpful_probability(network: CharacterCNN, rows: NDArray[np.uint8]) -> NDArray[np.float32]:
    """p(helpful) of each caption: float32 (n,) for rows (n, 256) uint8, computed where the network is."""
    device = next(network.parameters()).device
    parts = []
    for start in range(0, len(rows), _CAPTIONS_AT_A_TIME):
        captions = torch.tensor(rows[start : start + _CAPTIONS_AT_A_TIME]).to(device)
        parts.append(network(captions).softmax(dim=1)[:, HELPFUL_CLASS].cpu().numpy())
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)
