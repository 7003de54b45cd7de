"""What a reward model learns: the part of training that differs between verdicts and comparisons."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from onibus.consumers.reward_models.character_cnn import AnyNetwork, architecture, new_network
from onibus.consumers.reward_models.unseen import MOST_UNSEEN
from onibus.consumers.reward_models.verdict_fold import VerdictFold
from onibus.schemas.records import Annotation


class Objective(ABC):
    """Loss and figures of one kind of reward model.

    Attributes:
        data: what is learned from.
        architecture: of the network, as JSON.
        learning_rate: of Adam, for this network.
        gradient_norm: to which gradients are clipped; None for not at all.
    """

    gradient_norm: float | None = None

    def __init__(self, data: VerdictFold[Any], outputs: int, network: AnyNetwork) -> None:
        self.data = data
        self.architecture = architecture(outputs, network)
        self.learning_rate = network.learning_rate
        self._outputs, self._network = outputs, network
        self._unseen: deque[tuple[float, bool]] = deque(maxlen=MOST_UNSEEN)

    def network(self) -> nn.Module:
        """A new network, initialised with torch's random numbers."""
        return new_network(self._outputs, self._network)

    @abstractmethod
    def losses(self, network: nn.Module, steps: int, seed: int) -> Iterator[Tensor]:
        """The loss of each step's mini-batch, computed when it is asked for; a function of data and seed."""

    @abstractmethod
    def test(self, network: nn.Module, unseen: Sequence[Annotation]) -> None:
        """Hold a network against verdicts that it has not learned from; :meth:`figures` tells the outcome."""

    @abstractmethod
    def is_fitted(self, network: nn.Module) -> bool:
        """Whether the network says what the data says, as far as more steps without new data could help."""

    @abstractmethod
    def figures(self) -> dict[str, float]:
        """Counts of each verdict, and the figures of :mod:`~.unseen` where they can be told."""

    @abstractmethod
    def normalisation(self, network: nn.Module) -> dict[str, float]:
        """Scale of the network's scores over the captions of the data; empty where scores have a zero."""

    @abstractmethod
    def counted(self, figures: Mapping[str, float]) -> str:
        """The counts among :meth:`figures` in a few words."""
