"""Learns a score from comparisons of two captions (``--reward ranking`` and ``motif``).

The Bradley-Terry model: the first of two is preferred with probability ``sigmoid(score_1 - score_2)``; a
tie counts as half a preference either way (as in Motif, arXiv 2310.00166, and ONI, arXiv 2410.23022).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from onibus.consumers.reward_models.character_cnn import (
    MAX_OVER_TIME,
    SCORE,
    AnyNetwork,
    caption_scores,
    outputs_of,
    to_bytes,
    to_rows,
)
from onibus.consumers.reward_models.compared_captions import ComparedCaptions
from onibus.consumers.reward_models.objective import Objective
from onibus.consumers.reward_models.sampling import mini_batches, uniform_batches
from onibus.consumers.reward_models.score_scale import ScoreScale
from onibus.schemas.records import Annotation, Verdict

TIE = 0.5
PAIR = 2

_COUNTED = (Verdict.FIRST, Verdict.SECOND, Verdict.TIE, Verdict.UNSURE)


class Ranking(Objective):
    """Cross-entropy of the Bradley-Terry model over compared pairs; ``unsure`` trains nothing.

    Args:
        network: which one learns it.
    """

    gradient_norm = 10.0

    def __init__(self, network: AnyNetwork = MAX_OVER_TIME) -> None:
        self._pairs = ComparedCaptions()
        super().__init__(self._pairs, SCORE, network)

    def test(self, network: nn.Module, unseen: Sequence[Annotation]) -> None:
        decided = [a for a in unseen if a.verdict in (Verdict.FIRST, Verdict.SECOND) and len(a.texts) == PAIR]
        texts = sorted({text for a in decided for text in a.texts})
        score = dict(zip(texts, caption_scores(network, to_rows([*map(to_bytes, texts)])), strict=True))
        for one in decided:
            margin = float(score[one.texts[0]] - score[one.texts[1]])
            self._unseen.append((margin, one.verdict is Verdict.FIRST))

    def is_fitted(self, network: nn.Module) -> bool:
        del network
        return True  # an order has no threshold that a caption could lie on the wrong side of

    def losses(self, network: nn.Module, steps: int, seed: int) -> Iterator[Tensor]:
        data = self._pairs.rows()
        captions, preferred = torch.tensor(data.captions), torch.tensor(data.preferred)
        pairs = torch.tensor(np.stack([data.first, data.second], axis=1))
        for rows in self._batches(data.preferred, steps, seed):
            different, places = torch.unique(pairs[rows], return_inverse=True)  # each caption once
            scores = outputs_of(network, captions[different])[:, 0][places]
            yield nn.functional.binary_cross_entropy_with_logits(scores[:, 0] - scores[:, 1], preferred[rows])

    def figures(self) -> dict[str, float]:
        told = {"labels": float(len(self._pairs))}
        told |= {verdict.value: float(self._pairs.count(verdict)) for verdict in _COUNTED}
        if self._unseen:
            margin, first = map(np.array, zip(*self._unseen, strict=True))
            told["held_out"] = float(len(first))
            told["held_out_accuracy"] = float(np.mean((margin > 0) == first))
            told["held_out_brier"] = float(np.mean((1 / (1 + np.exp(-margin)) - first) ** 2))
        return told

    def _batches(self, preferred: NDArray[np.float32], steps: int, seed: int) -> Iterator[Tensor]:
        if self._network.batch is None:
            return mini_batches(preferred != TIE, steps, seed)
        generator = torch.Generator().manual_seed(seed)
        return uniform_batches(len(preferred), steps, generator, self._network.batch)

    def normalisation(self, network: nn.Module) -> dict[str, float]:
        sample = self._pairs.sample()
        return ScoreScale.of(caption_scores(network, sample)).figures() if len(sample) else {}

    def counted(self, figures: Mapping[str, float]) -> str:
        decided = figures["first"] + figures["second"]
        return f"{decided:.0f} decided and {figures['tie']:.0f} tied pairs"
