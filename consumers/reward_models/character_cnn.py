"""The character CNN that judges a caption by its bytes, as published with ONI (arXiv 2410.23022) or better.

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

from onibus.consumers.reward_models.model_file import ModelFile
from onibus.consumers.reward_models.own_network import (
    CAPTION_BYTES,
    OwnNetwork,
    imported_network,
    own_network,
    why_unknown,
)
from onibus.consumers.reward_models.packed_convolution import largest_values
from onibus.infra.errors import OnibusError
from onibus.infra.plugins import is_plugin

HELPFUL_CLASS = 1
"""Of two; the other one is unhelpful."""

CLASSES = 2
SCORE = 1
"""Outputs of a network that tells classes apart, and of one that scores."""

_CAPTIONS_AT_A_TIME = 256


@dataclass(frozen=True, slots=True)
class NetworkDesign:
    """What a character CNN is made like, and trained with.

    Attributes:
        pooled_after: the convolutions that a max-pool of ``pool`` follows.
        max_over_time: whether each channel's largest value is all that goes on, wherever in the caption it
            stands (Kim, arXiv 1408.5882); otherwise all places go on. Such a network pools after its first
            convolution, and nowhere else.
        learning_rate: of Adam.
        class_head: widths of the layers from ``hidden`` to the logits of a network that tells classes apart.
        class_dropout: share of the last one's values that is dropped while it trains.
        score_head: the same of a network that scores.
        batch: captions of a gradient step; None: by how many there are.
        hidden_bytes: share of a caption's bytes that is hidden while classes are learned.
    """

    embedding: int
    channels: int
    kernels: tuple[int, ...]
    pooled_after: tuple[int, ...]
    hidden: int
    pool: int = 3
    max_over_time: bool = False
    learning_rate: float = 1e-4
    class_head: tuple[int, ...] = ()
    class_dropout: float = 0.0
    score_head: tuple[int, ...] = ()
    batch: int | None = None
    hidden_bytes: float = 0.35

    def __post_init__(self) -> None:
        if self.max_over_time and self.pooled_after != (0,):
            raise ValueError("a network with a maximum over time pools after its first convolution alone")


PUBLISHED = NetworkDesign(
    32, 64, (7, 7, 3, 3, 3, 3), (0, 1, 5), 128,
    class_head=(512, 512), class_dropout=0.1, score_head=(256, 512), batch=256, hidden_bytes=0.0,
)  # fmt: skip
"""ONI's: 471,554 parameters where it tells classes apart, as released (github.com/facebookresearch/oni)."""
MAX_OVER_TIME = NetworkDesign(32, 64, (7, 5, 3), (0,), 128, max_over_time=True, learning_rate=5e-4)
NETWORKS = {
    "max-over-time": MAX_OVER_TIME,
    "published": PUBLISHED,
    "published-0.1": NetworkDesign(32, 64, (7, 7, 3, 3, 3, 3), (0, 1, 5), 128),
    "small": NetworkDesign(16, 32, (7, 5, 3), (0, 1, 2), 64),
    "large": NetworkDesign(64, 128, (7, 7, 3, 3, 3, 3), (0, 1, 5), 256),
}
"""Networks by the name that a user gives."""
USUAL = "max-over-time"
"""Captions are several messages in a row, and what makes one helpful may stand anywhere. A network that looks
for it everywhere alike learns from fewer labels and errs less on captions that it has not seen than the
published one, which must learn each place anew (``onibus bench reward-models`` has both)."""


AnyNetwork = NetworkDesign | OwnNetwork


def architecture(outputs: int, network: AnyNetwork = MAX_OVER_TIME) -> str:
    """Everything that weights must agree with to be loaded and trained further, as JSON."""
    if isinstance(network, OwnNetwork):
        return network.architecture(outputs)
    made = asdict(network)
    del made["batch"], made["hidden_bytes"]  # how it is trained, not what it is made like
    if not network.max_over_time:  # older than these two fields, and told without them
        del made["max_over_time"], made["learning_rate"]
    heads = {"class_head", "class_dropout"} if outputs == CLASSES else {"score_head"}
    for name in ("class_head", "class_dropout", "score_head"):
        if not made[name] or name not in heads:
            del made[name]
    told = made | {"name": "character-cnn", "caption_bytes": CAPTION_BYTES, "outputs": outputs}
    return json.dumps(told, sort_keys=True)


def new_network(outputs: int, network: AnyNetwork = MAX_OVER_TIME) -> nn.Module:
    """A network, initialised with torch's random numbers: (n, 256) uint8 to (n, ``outputs``) float32.

    Raises:
        OnibusError: it is the user's own, and failed.
    """
    return network.make(outputs) if isinstance(network, OwnNetwork) else CharacterCNN(outputs, network)


def network_named(name: str) -> AnyNetwork:
    """One of :data:`NETWORKS`, or the user's own, ``module:Class``.

    Raises:
        OnibusError: there is none of that name.
    """
    if is_plugin(name):
        return own_network(name)
    if name not in NETWORKS:
        raise OnibusError(
            f"there is no network {name}; choose one of {', '.join(NETWORKS)}, or module:Class of your own"
        )
    return NETWORKS[name]


def network_of(told: str, outputs: int) -> AnyNetwork | None:
    """The network with that many outputs whose :func:`architecture` is told; None: not ours.

    One of the user's own is found where its module was imported, see :func:`~.own_network.why_unknown`.
    """
    ours = (network for network in NETWORKS.values() if architecture(outputs, network) == told)
    return next(ours, None) or imported_network(told, outputs)


def network_in(file: ModelFile, outputs: int) -> nn.Module:
    """The network of a file, ready to judge.

    Raises:
        ValueError: it is of another architecture, or has another number of outputs.
    """
    told = file.provenance.architecture
    if (known := network_of(told, outputs)) is None:
        raise ValueError(f"{why_unknown(told)} ({told})")
    network = new_network(outputs, known)
    try:
        network.load_state_dict(dict(file.weights))
    except RuntimeError as error:
        raise ValueError(" ".join(str(error).split())) from error
    return network.eval()


class CharacterCNN(nn.Module):
    """Bytes (n, 256) uint8 to outputs (n, ``outputs``) float32; of the usual network 64,066 parameters.

    Two outputs are the logits of unhelpful and helpful; one is a score whose differences count.

    Where only each channel's largest value goes on, a CPU computes the same function with a fraction of the
    work (:func:`~onibus.consumers.reward_models.packed_convolution.largest_values`); a GPU computes all.
    """

    def __init__(self, outputs: int = CLASSES, network: NetworkDesign = MAX_OVER_TIME) -> None:
        super().__init__()
        self.embedding = nn.Embedding(256, network.embedding)
        layers: list[nn.Module] = []
        channels, length = network.embedding, CAPTION_BYTES
        for place, kernel in enumerate(network.kernels):
            layers.append(nn.Conv1d(channels, network.channels, kernel))
            channels, length = network.channels, length - kernel + 1
            if place in network.pooled_after:
                layers.append(_Largest(network.pool))  # before the ReLU: the same, and less to do for it
                length //= network.pool
            layers.append(nn.ReLU())
        self.convolutions = nn.Sequential(*layers)
        self._network = network
        inputs = channels * (1 if network.max_over_time else length)
        self.head = nn.Sequential(nn.Flatten(), *_dense(inputs, network, outputs))

    def forward(self, captions: Tensor) -> Tensor:
        """Outputs (n, outputs) of captions (n, 256) uint8."""
        if not self._network.max_over_time or captions.device.type != "cpu" or not len(captions):
            return self._whole(captions)
        convolutions = [layer for layer in self.convolutions if isinstance(layer, nn.Conv1d)]
        largest = largest_values(captions, self.embedding, convolutions, self._network.pool)
        outputs: Tensor = self.head(largest)
        return outputs

    def _whole(self, captions: Tensor) -> Tensor:
        """Outputs (n, outputs) of captions (n, length) uint8."""
        places = self.convolutions(self.embedding(captions.long()).transpose(1, 2))
        if self._network.max_over_time:
            places = places.amax(dim=2)
        outputs: Tensor = self.head(places)
        return outputs


class _Largest(nn.Module):
    """The largest of every ``count`` places: (n, channels, length) to (n, channels, length // count).

    What ``nn.MaxPool1d`` computes, whose gradient on a GPU has other bits each time.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self._count = count

    def forward(self, values: Tensor) -> Tensor:
        length = values.shape[2] // self._count
        places = values[:, :, : length * self._count]
        return places.reshape(*values.shape[:2], length, self._count).amax(dim=3)


def _dense(inputs: int, network: NetworkDesign, outputs: int) -> list[nn.Module]:
    """The layers from the places that go on to the outputs."""
    layers: list[nn.Module] = []
    for width in (network.hidden, *(network.class_head if outputs == CLASSES else network.score_head)):
        layers += [nn.Linear(inputs, width), nn.ReLU()]
        inputs = width
    if outputs == CLASSES and network.class_dropout:
        layers.append(nn.Dropout(network.class_dropout))
    return [*layers, nn.Linear(inputs, outputs)]


def to_bytes(caption: str) -> bytes:
    """The UTF-8 bytes of a caption that the network sees: the first 256."""
    return caption.encode()[:CAPTION_BYTES]


def to_rows(captions: Sequence[bytes]) -> NDArray[np.uint8]:
    """Captions as :func:`to_bytes` gives them, as an array (n, 256) uint8."""
    joined = b"".join(caption.ljust(CAPTION_BYTES, b"\0") for caption in captions)
    return np.frombuffer(joined, np.uint8).reshape(len(captions), CAPTION_BYTES)


def helpful_probability(network: nn.Module, rows: NDArray[np.uint8]) -> NDArray[np.float32]:
    """p(helpful) of each caption under a network with two outputs: float32 (n,) for rows (n, 256) uint8."""
    return _in_parts(lambda outputs: outputs.softmax(dim=1)[:, HELPFUL_CLASS], network, rows)


def caption_scores(network: nn.Module, rows: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Score of each caption under a network with one output: float32 (n,) for rows (n, 256) uint8."""
    return _in_parts(lambda outputs: outputs[:, 0], network, rows)


def outputs_of(network: nn.Module, captions: Tensor) -> Tensor:
    """Outputs (n, outputs) of captions (n, 256) uint8, both on the CPU; computed where the network is."""
    device = next(network.parameters()).device
    outputs: Tensor = network(captions.to(device))
    return outputs.cpu()


@torch.no_grad()
def _in_parts(
    judge: Callable[[Tensor], Tensor], network: nn.Module, rows: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """``judge`` of the outputs of all rows, computed so many at a time that memory stays small."""
    parts = [
        judge(outputs_of(network, torch.tensor(rows[start : start + _CAPTIONS_AT_A_TIME]))).numpy()
        for start in range(0, len(rows), _CAPTIONS_AT_A_TIME)
    ]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)
