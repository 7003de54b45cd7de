"""Learns to tell helpful from unhelpful captions (``--reward classification``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from onibus.consumers.reward_models.character_cnn import (
    CLASSES,
    MAX_OVER_TIME,
    CharacterCNN,
    Network,
    architecture,
    helpful_probability,
)
from onibus.consumers.reward_models.labelled_captions import LabelledCaptions
from onibus.consumers.reward_models.sampling import mini_batches
from onibus.schemas.records import Annotation, Verdict

_COUNTED = (Verdict.HELPFUL, Verdict.UNHELPFUL, Verdict.UNSURE)


class Classification:
    """Cross-entropy over verdicts on single captions; ``unsure`` trains nothing.

    See :class:`~onibus.consumers.reward_models.objective.Objective`.

    Args:
        class_weights: of unhelpful and helpful captions in the loss; None: 1 each.
        network: which one learns it.
    """

    gradient_norm: float | None = None

    def __init__(
        self, class_weights: tuple[float, float] | None = None, network: Network = MAX_OVER_TIME
    ) -> None:
        self._network = network
        self._captions = LabelledCaptions()
        self._weights = None if class_weights is None else torch.tensor(class_weights)

    def __len__(self) -> int:
        return len(self._captions)

    @property
    def architecture(self) -> str:
        return architecture(CLASSES, self._network)

    @property
    def learning_rate(self) -> float:
        return self._network.learning_rate

    @property
    def newest_annotated_at(self) -> int:
        return self._captions.newest_annotated_at

    @property
    def can_teach(self) -> bool:
        return self._captions.can_teach

    def network(self) -> CharacterCNN:
        return CharacterCNN(CLASSES, self._network)

    def apply(self, annotation: Annotation) -> None:
        self._captions.apply(annotation)

    def losses(self, network: CharacterCNN, steps: int, seed: int) -> Iterator[Tensor]:
        data = self._captions.rows(held_out=False)
        captions, classes = torch.tensor(data.captions), torch.tensor(data.helpful).long()
        for rows in mini_batches(data.helpful, steps, seed):
            different, places = torch.unique(rows, return_inverse=True)  # the rarer class comes up often
            outputs = network(captions[different])[places]
            yield nn.functional.cross_entropy(outputs, classes[rows], weight=self._weights)

    def figures(self, network: CharacterCNN) -> dict[str, float]:
        told = {"labels": float(len(self._captions))}
        for verdict in _COUNTED:
            told[verdict.value] = float(self._captions.count(verdict, held_out=False))
            told[f"held_out_{verdict.value}"] = float(self._captions.count(verdict, held_out=True))
        held_out = self._captions.rows(held_out=True)
        if held_out.helpful.size:
            probability = helpful_probability(network, held_out.captions)
            told["held_out_accuracy"] = float(np.mean((probability > 0.5) == held_out.helpful))
            told["held_out_brier"] = float(np.mean((probability - held_out.helpful) ** 2))
        return told

    def normalisation(self, network: CharacterCNN) -> dict[str, float]:
        del network
        return {}  # a probability needs none

    def counted(self, figures: Mapping[str, float]) -> str:
        return f"{figures['helpful']:.0f} helpful and {figures['unhelpful']:.0f} unhelpful captions"
