"""The character CNN that judges a caption by its bytes; sizes as published with ONI (arXiv 2410.23022).

With two outputs it tells helpful from unhelpful captions, with one it scores them (Bradley-Terry).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

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

_EMBEDDING, _CHANNELS, _HIDDEN, _POOL = 32, 64, 128, 3
_KERNELS = (7, 7, 3, 3, 3, 3)
_POOLED_AFTER = (0, 1, 5)
"""Convolutions that a max-pool follows."""
_CAPTIONS_AT_A_TIME = 256


def architecture(outputs: int) -> str:
    """Everything that weights must agree with to be loaded into :class:`CharacterCNN`, as JSON."""
    sizes = {
        "name": "character-cnn",
        "caption_bytes": CAPTION_BYTES,
        "embedding": _EMBEDDING,
        "channels": _CHANNELS,
        "kernels": _KERNELS,
        "pooled_after": _POOLED_AFTER,
        "pool": _POOL,
        "hidden": _HIDDEN,
        "outputs": outputs,
    }
    return json.dumps(sizes, sort_keys=True)


class CharacterCNN(nn.Module):
    """Bytes (n, 256) uint8 to outputs (n, ``outputs``) float32. 142,082 parameters with two outputs.

    Two outputs are the logits of unhelpful and helpful; one is a score whose differences count.
    """

    def __init__(self, outputs: int = CLASSES) -> None:
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
            nn.Linear(_HIDDEN, outputs),
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
