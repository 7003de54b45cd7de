"""Learns a score from comparisons of two captions (``--reward ranking`` and ``motif``).

The Bradley-Terry model: the first of two is preferred with probability ``sigmoid(score_1 - score_2)``; a
tie counts as half a preference either way (as in Motif, arXiv 2310.00166, and ONI, arXiv 2410.23022).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from onibus.consumers.reward_models.character_cnn import (
    MAX_OVER_TIME,
    SCORE,
    CharacterCNN,
    Network,
    architecture,
    caption_scores,
)
from onibus.consumers.reward_models.compared_captions import ComparedCaptions
from onibus.consumers.reward_models.sampling import mini_batches
from onibus.consumers.reward_models.score_scale import ScoreScale
from onibus.schemas.records import Annotation, Verdict

TIE = 0.5

_COUNTED = (Verdict.FIRST, Verdict.SECOND, Verdict.TIE, Verdict.UNSURE)


class Ranking:
    """Cross-entropy of the Bradley-Terry model over compared pairs; ``unsure`` trains nothing.

    See :class:`~onibus.consumers.reward_models.objective.Objective`.

    Args:
        network: which one learns it.
    """

    gradient_norm: float | None = 10.0

    def __init__(self, network: Network = MAX_OVER_TIME) -> None:
        self._network = network
        self._pairs = ComparedCaptions()

    def __len__(self) -> int:
        return len(self._pairs)

    @property
    def architecture(self) -> str:
        return architecture(SCORE, self._network)

    @property
    def learning_rate(self) -> float:
        return self._network.learning_rate

    @property
    def newest_annotated_at(self) -> int:
        return self._pairs.newest_annotated_at

    @property
    def can_teach(self) -> bool:
        return self._pairs.can_teach

    def network(self) -> CharacterCNN:
        return CharacterCNN(SCORE, self._network)

    def apply(self, annotation: Annotation) -> None:
        self._pairs.apply(annotation)

    def losses(self, network: CharacterCNN, steps: int, seed: int) -> Iterator[Tensor]:
        data = self._pairs.rows(held_out=False)
        captions, preferred = torch.tensor(data.captions), torch.tensor(data.preferred)
        pairs = torch.tensor(np.stack([data.first, data.second], axis=1))
        for rows in mini_batches(data.preferred != TIE, steps, seed):
            different, places = torch.unique(pairs[rows], return_inverse=True)  # each caption once
            scores = network(captions[different])[:, 0][places]
            yield nn.functional.binary_cross_entropy_with_logits(scores[:, 0] - scores[:, 1], preferred[rows])

    def figures(self, network: CharacterCNN) -> dict[str, float]:
        told = {"labels": float(len(self._pairs))}
        for verdict in _COUNTED:
            told[verdict.value] = float(self._pairs.count(verdict, held_out=False))
            told[f"held_out_{verdict.value}"] = float(self._pairs.count(verdict, held_out=True))
        held_out = self._pairs.rows(held_out=True)
        decided = held_out.preferred != TIE
        if decided.any():
            scores = caption_scores(network, held_out.captions)
            margin = scores[held_out.first] - scores[held_out.second]
            told["held_out_accuracy"] = float(np.mean((margin > 0)[decided] == held_out.preferred[decided]))
            told["held_out_brier"] = float(np.mean((1 / (1 + np.exp(-margin)) - held_out.preferred) ** 2))
        return told

    def normalisation(self, network: CharacterCNN) -> dict[str, float]:
        sample = self._pairs.sample()
        return ScoreScale.of(caption_scores(network, sample)).figures() if len(sample) else {}

    def counted(self, figures: Mapping[str, float]) -> str:
        decided = figures["first"] + figures["second"]
        return f"{decided:.0f} decided and {figures['tie']:.0f} tied pairs"
