"""Which comparisons a caption still leads to."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from onibus.consumers.annotator.batch import Subject, lookups_of
from onibus.consumers.annotator.comparison_labels import ComparisonLabels
from onibus.consumers.annotator.comparison_partners import ComparisonPartners
from onibus.consumers.annotator.pending import PendingCaption
from onibus.consumers.labels.table import NO_LABEL, LabelTable
from onibus.schemas.records import CaptionOffset


class Comparing:
    """Compares captions with others, each so often.

    Args:
        partners: captions to compare with.
        most: comparisons that a caption leads to under each spec.
    """

    def __init__(self, partners: ComparisonPartners, most: int) -> None:
        self._partners, self._most = partners, most

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
        pairs = self._partners.pairs(caption.caption_id, caption.text, self._most)
        if not pairs:
            return []
        looked_up = lookups_of([pair.subject_id for pair in pairs])
        here, missing = CaptionOffset(caption.partition, caption.offset), []
        for place in np.flatnonzero(labels.verdicts(spec_id, looked_up) == NO_LABEL)[:owed]:
            pair = pairs[place]
            there = CaptionOffset(pair.partner.partition, pair.partner.offset)
            missing.append(Subject(spec_id, pair.subject_id, (pair.first, pair.second), (here, there)))
        return missing
