"""Which comparisons a caption still leads to."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from onibus.consumers.annotator.batch import Subject, lookups_of
from onibus.consumers.annotator.comparison_labels import ComparisonLabels
from onibus.consumers.annotator.comparison_partners import ComparisonPartners, Pair
from onibus.consumers.annotator.pending import PendingCaption
from onibus.consumers.labels.table import NO_LABEL, LabelTable
from onibus.schemas.records import CaptionOffset

NEAR_OF = 32
"""Of so many captions those are taken that score nearest."""

Scores = Callable[[bytes, Sequence[str]], "NDArray[np.float64] | None"]
"""Scores of captions under a spec's reward model, float64 (n,); None while there is none."""


class Comparing:
    """Compares captions with others, each so often.

    Args:
        partners: captions to compare with.
        most: comparisons that a caption leads to under each spec.

    Attributes:
        scores: where given, captions are compared that score alike.
    """

    def __init__(self, partners: ComparisonPartners, most: int) -> None:
        self._partners, self._most = partners, most
        self.scores: Scores | None = None

    def owed(self, labels: LabelTable, spec_id: bytes, captions: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many more comparisons captions of a partition are to lead to: int64 (n,).

        Args:
            labels: of that partition, with counts.
            captions: look-up ids, int64 (n,).
        """
        assert isinstance(labels, ComparisonLabels)
        return np.int64(self._most) - labels.comparisons(spec_id, captions)

    def missing(
        self, labels: LabelTable, spec_id: bytes, caption: PendingCaption, owed: int
    ) -> list[Subject]:
        """Up to ``owed`` comparisons that have no label; none where there is nothing to compare with."""
        pairs = self._pairs(spec_id, caption)
        if not pairs:
            return []
        looked_up = lookups_of([pair.subject_id for pair in pairs])
        here, missing = CaptionOffset(caption.partition, caption.offset), []
        for place in np.flatnonzero(labels.verdicts(spec_id, looked_up) == NO_LABEL)[:owed]:
            pair = pairs[place]
            there = CaptionOffset(pair.partner.partition, pair.partner.offset)
            missing.append(Subject(spec_id, pair.subject_id, (pair.first, pair.second), (here, there)))
        return missing

    def _pairs(self, spec_id: bytes, caption: PendingCaption) -> list[Pair]:
        """As many as there are comparisons or more, the best ones first."""
        most = self._most if self.scores is None else max(NEAR_OF, self._most)
        pairs = self._partners.pairs(caption.caption_id, caption.text, most)
        if self.scores is None or len(pairs) <= self._most:
            return pairs
        scores = self.scores(spec_id, [caption.text, *(pair.partner.text for pair in pairs)])
        if scores is None:
            return pairs
        return [pairs[place] for place in np.argsort(np.abs(scores[1:] - scores[0]), kind="stable")]
