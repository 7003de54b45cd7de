"""What a reward model learns: the part of training that differs between verdicts and comparisons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from torch import Tensor, nn

from onibus.schemas.records import Annotation


class Objective(Protocol):
    """Data set, loss and figures of one kind of reward model.

    The data set is a fold of annotations. Those of one subject must be applied in the order of their
    partition; that of different partitions makes no difference.
    """

    @property
    def architecture(self) -> str:
        """Of the network, as JSON."""

    @property
    def learning_rate(self) -> float:
        """Of Adam, for this network."""

    @property
    def gradient_norm(self) -> float | None:
        """To which gradients are clipped; None for not at all."""

    @property
    def newest_annotated_at(self) -> int:
        """Of the annotations applied, microseconds since the epoch; 0 for none."""

    def __len__(self) -> int:
        """Number of subjects with a verdict, unsure ones included."""

    def __contains__(self, subject_id: bytes) -> bool:
        """Whether a subject has a verdict."""

    @property
    def can_teach(self) -> bool:
        """Whether there is something to tell apart. If not, no model is better than any."""

    def network(self) -> nn.Module:
        """A new network, initialised with torch's random numbers."""

    def apply(self, annotation: Annotation) -> None:
        """Take over one annotation."""

    def losses(self, network: nn.Module, steps: int, seed: int) -> Iterator[Tensor]:
        """The loss of each step's mini-batch, computed when it is asked for; a function of data and seed."""

    def test(self, network: nn.Module, unseen: Sequence[Annotation]) -> None:
        """Hold a network against verdicts that it has not learned from; :meth:`figures` tells the outcome."""

    def is_fitted(self, network: nn.Module) -> bool:
        """Whether the network says what the data says, as far as more steps without new data could help."""

    def figures(self) -> dict[str, float]:
        """Counts of each verdict, and the figures of :mod:`~.unseen` where they can be told."""

    def normalisation(self, network: nn.Module) -> dict[str, float]:
        """Scale of the network's scores over the captions of the data; empty where scores have a zero."""

    def counted(self, figures: Mapping[str, float]) -> str:
        """The counts among :meth:`figures` in a few words."""
