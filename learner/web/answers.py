"""A label board that also counts what answers took: how many a minute, how soon, for how much."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from onibus.consumers.annotator.cost import Spending
from onibus.consumers.labels.annotation_log_reader import LoggedAnnotation
from onibus.consumers.labels.live_index import LabelBoard
from onibus.schemas.records import Annotation, AnnotationSpec, Origin

LATELY_SECONDS = 60.0
_KEPT = 20_000
"""Answers of which times are kept: with more of them in a minute the figures are of the last ones."""
_MICROSECONDS = 1_000_000


class _Answered(NamedTuple):
    spec_id: bytes
    at: float
    seconds: float | None
    """From observing the caption; None if it had waited for its annotator."""


@dataclass(frozen=True, slots=True)
class Lately:
    """What happened under a spec in the last minute; ``latency_p50`` in seconds, None where none is known."""

    answers_a_minute: float
    latency_p50: float | None


class AnsweringBoard(LabelBoard):
    """Counts annotations as they are applied; memory does not grow with them."""

    def __init__(self, specs: Mapping[bytes, AnnotationSpec], most: int | None = None) -> None:
        super().__init__(most)
        self._kept_most, self._specs = most, specs
        self._spending = Spending(specs)
        self._lately: deque[_Answered] = deque(maxlen=_KEPT)
        self._counted: tuple[int, Counter[bytes]] = (-1, Counter())

    def apply(self, logged: Iterable[LoggedAnnotation]) -> None:
        """See LabelBoard."""
        part = list(logged)
        super().apply(part)
        for one in part:
            if one.annotation is not None:
                self._count(one.annotation)

    def fresh(self) -> AnsweringBoard:
        """See LabelBoard."""
        return AnsweringBoard(self._specs, self._kept_most)

    def become(self, other: LabelBoard) -> None:
        """See LabelBoard."""
        super().become(other)
        assert isinstance(other, AnsweringBoard)
        self._spending, self._lately, self._counted = other._spending, other._lately, (-1, Counter())

    def usd(self) -> float:
        """What all answers cost, as far as their prices were recorded."""
        return sum(cost.usd for cost in list(self._spending.by_asked.values()))

    def lately(self) -> dict[bytes, Lately]:
        """By spec id the answers of the last minute."""
        since = time.time() - LATELY_SECONDS
        recent = [one for one in self._lately.copy() if one.at >= since]
        found = {}
        for spec_id in {one.spec_id for one in recent}:
            seconds = [one.seconds for one in recent if one.spec_id == spec_id]
            known = [value for value in seconds if value is not None]
            rate = len(seconds) * 60 / LATELY_SECONDS
            found[spec_id] = Lately(rate, float(np.median(known)) if known else None)
        return found

    def labels_by_spec(self) -> Counter[bytes]:
        """How many labels are in force under each spec; counted again only when annotations have come."""
        if self._counted[0] != self.annotations:
            at = self.annotations
            self._counted = at, self.count_by_spec()
        return self._counted[1]

    def _count(self, annotation: Annotation) -> None:
        self._spending.count([annotation])
        if annotation.origin in (Origin.LLM, Origin.RULES):
            seconds = (annotation.annotated_at - annotation.observed_at) / _MICROSECONDS
            waited = annotation.was_waiting
            at = annotation.annotated_at / _MICROSECONDS
            self._lately.append(_Answered(annotation.spec_id, at, None if waited else seconds))
