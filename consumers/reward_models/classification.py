"""Learns to tell helpful from unhelpful captions (``--reward classification``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from onibus.consumers.reward_models.character_cnn import (
    CLASSES,
    MAX_OVER_TIME,
    AnyNetwork,
    helpful_probability,
    outputs_of,
    to_bytes,
    to_rows,
)
from onibus.consumers.reward_models.labelled_captions import LabelledCaptions
from onibus.consumers.reward_models.objective import Objective
from onibus.consumers.reward_models.sampling import uniform_batches, with_hidden_bytes
from onibus.consumers.reward_models.unseen import MOST_UNSEEN, classified_figures
from onibus.schemas.records import Annotation, Verdict

_COUNTED = (Verdict.HELPFUL, Verdict.UNHELPFUL, Verdict.UNSURE)
_THRESHOLD = 0.5

FITTED = 0.7
"""Balanced accuracy on its own labels with which a model is not trained further without new ones. One that
says no to all has 0.5. More would be asked in vain where a judge wavers: with 5 % helpful captions and a coin
tossed for a tenth, half of the labels "helpful" are wrong, and a model that is right about all has 0.74.
"""


class Classification(Objective):
    """Cross-entropy over verdicts on single captions; ``unsure`` trains nothing.

    Captions are drawn uniformly, as ONI does, so p(helpful) is calibrated to the log's own share of helpful
    ones; and a part of each caption's bytes is hidden (:func:`~.sampling.with_hidden_bytes`), so that what
    many captions have in common is learned and not one wavering answer by heart.

    Args:
        class_weights: of unhelpful and helpful captions in the loss; None: 1 each.
        network: which one learns it.
    """

    def __init__(
        self, class_weights: tuple[float, float] | None = None, network: AnyNetwork = MAX_OVER_TIME
    ) -> None:
        self._captions = LabelledCaptions()
        super().__init__(self._captions, CLASSES, network)
        self._weights = None if class_weights is None else torch.tensor(class_weights)

    def test(self, network: nn.Module, unseen: Sequence[Annotation]) -> None:
        taught = [a for a in unseen if a.verdict in (Verdict.HELPFUL, Verdict.UNHELPFUL)]
        probability = helpful_probability(network, to_rows([to_bytes(a.texts[0]) for a in taught]))
        true = (a.verdict is Verdict.HELPFUL for a in taught)
        self._unseen.extend(zip(probability.tolist(), true, strict=True))

    def losses(self, network: nn.Module, steps: int, seed: int) -> Iterator[Tensor]:
        data = self._captions.rows()
        captions, classes = torch.tensor(data.captions), torch.tensor(data.helpful).long()
        generator = torch.Generator().manual_seed(seed)
        for rows in uniform_batches(len(classes), steps, generator, self._network.batch):
            hidden = with_hidden_bytes(captions[rows], self._network.hidden_bytes, generator)
            outputs = outputs_of(network, hidden)
            yield nn.functional.cross_entropy(outputs, classes[rows], weight=self._weights)

    def is_fitted(self, network: nn.Module) -> bool:
        data = self._captions.rows(MOST_UNSEEN)
        said = helpful_probability(network, data.captions) > _THRESHOLD
        right = [(said == one)[data.helpful == one].mean() for one in (True, False)]
        return float(np.mean(right)) >= FITTED

    def normalisation(self, network: nn.Module) -> dict[str, float]:
        del network
        return {}  # a probability needs none

    def figures(self) -> dict[str, float]:
        told = {"labels": float(len(self._captions))}
        told |= {verdict.value: float(self._captions.count(verdict)) for verdict in _COUNTED}
        if self._unseen:
            probability, true = map(np.array, zip(*self._unseen, strict=True))
            told |= classified_figures(probability, true, _THRESHOLD)
        return told

    def counted(self, figures: Mapping[str, float]) -> str:
        return f"{figures['helpful']:.0f} helpful and {figures['unhelpful']:.0f} unhelpful captions"
