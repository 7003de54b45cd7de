"""A reward model that judges by an embedding of the caption: ``onibus train-reward --network``.

The embedding is one of pieces of words, and needs no download. A sentence model takes the place of
:func:`embed`: keep it out of the module, as here, or its weights are published with each version.
"""

from __future__ import annotations

import zlib
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

__version__ = "1.0"

SIZE = 1024
"""Numbers of an embedding."""


@lru_cache(maxsize=20_000)
def embed(text: str) -> NDArray[np.float32]:
    """A unit vector, float32 (1024,), for a text: its words and their pieces of three letters, hashed.

    With a sentence model: ``model.encode(text, normalize_embeddings=True)``.
    """
    vector = np.zeros(SIZE, np.float32)
    for word in text.lower().split():
        padded = f"<{word}>"
        for piece in (padded, *(padded[at : at + 3] for at in range(len(padded) - 2))):
            vector[zlib.crc32(piece.encode()) % SIZE] += 1
    length = float(np.linalg.norm(vector))
    return vector / length if length else vector


class Network(nn.Module):
    """Captions, uint8 (n, 256), to (n, outputs): their embeddings, and a layer that learns."""

    learning_rate = 0.01

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.head = nn.Linear(SIZE, outputs)

    def forward(self, captions: Tensor) -> Tensor:
        texts = [bytes(row).rstrip(b"\0").decode(errors="replace") for row in captions.cpu().numpy()]
        embedded = np.stack([embed(text) for text in texts]) if texts else np.zeros((0, SIZE), np.float32)
        outputs: Tensor = self.head(torch.from_numpy(embedded).to(self.head.weight.device))
        return outputs
