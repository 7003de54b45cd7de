"""Scores of captions under the newest reward models of specs.

With them captions are compared that score alike (``onibus annotate --near-pairs``): a comparison of two
captions whose order is clear already teaches little. Which pairs are compared then depends on the model that
was there; each is still judged once. And what a model and the answers disagree on is asked about again first
(``--ask-again``).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import nn

from onibus.consumers.reward_models.character_cnn import (
    CLASSES,
    SCORE,
    caption_scores,
    helpful_probability,
    network_in,
    to_bytes,
    to_rows,
)
from onibus.consumers.reward_models.follower import ModelFollower
from onibus.consumers.reward_models.model_file import read_model_file
from onibus.consumers.reward_models.transfer import WholeFile
from onibus.infra.settings import Settings
from onibus.schemas.records import AnnotationSpec, Kind

_log = logging.getLogger(__name__)

_MOST_KEPT = 30_000
"""Captions of which the score under the newest version is kept, for each spec."""


class _Scored:
    """One version's network, and the scores that it has given."""

    def __init__(self, network: nn.Module, compares: bool) -> None:
        self._network = network
        self._judge = caption_scores if compares else helpful_probability
        self._scores: dict[str, float] = {}

    def of(self, texts: Sequence[str]) -> NDArray[np.float64]:
        if missing := list(dict.fromkeys(text for text in texts if text not in self._scores)):
            if len(self._scores) > _MOST_KEPT:
                self._scores.clear()
                missing = list(dict.fromkeys(texts))
            scores = self._judge(self._network, to_rows([to_bytes(text) for text in missing]))
            self._scores |= zip(missing, scores.tolist(), strict=True)
        return np.array([self._scores[text] for text in texts])


class FollowedModels:
    """Follows the reward models of specs, in a daemon thread; one other thread asks.

    While there is no model, or the bus is away, what was there stays in use.

    Args:
        specs: by id.
    """

    def __init__(self, settings: Settings, specs: Mapping[bytes, AnnotationSpec]) -> None:
        self._specs = specs
        self._scored: dict[bytes, _Scored] = {}
        self._follower = ModelFollower(settings, self._is_wanted, self._take)
        self._follower.start()

    def scores(self, spec_id: bytes, texts: Sequence[str]) -> NDArray[np.float64] | None:
        """Of each caption under the newest version, float64 (n,); None where there is none yet.

        p(helpful) under a spec that judges one caption; else a score, whose differences count.
        """
        scored = self._scored.get(spec_id)
        return None if scored is None else scored.of(texts)

    def probabilities(
        self, spec_id: bytes, subjects: Sequence[tuple[str, ...]]
    ) -> NDArray[np.float64] | None:
        """p(helpful) of captions, of pairs p(first) (Bradley and Terry 1952): float64 (n,); None as above."""
        scores = self.scores(spec_id, [text for texts in subjects for text in texts])
        if scores is None or not self._compares(spec_id):
            return scores
        first, second = scores.reshape(-1, 2).T
        return np.asarray(1 / (1 + np.exp(second - first)))

    def close(self) -> None:
        """End following and close the connection."""
        self._follower.stop()

    def _is_wanted(self, name: str, spec_id: bytes) -> bool:
        return spec_id in self._specs and self._specs[spec_id].name == name

    def _take(self, spec_id: bytes, whole: WholeFile, _written_at: float) -> None:
        compares = self._compares(spec_id)
        try:
            network = network_in(read_model_file(whole.data), SCORE if compares else CLASSES)
        except ValueError as error:
            _log.warning("version %d of %s: %s", whole.version, whole.model, error)
        else:
            self._scored[spec_id] = _Scored(network, compares)

    def _compares(self, spec_id: bytes) -> bool:
        return self._specs[spec_id].kind is Kind.COMPARE_TWO
