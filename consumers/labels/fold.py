"""The annotation log folded to labels: what is in force for each subject, who decided it, and the cost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from sys import intern
from typing import Any

from onibus.consumers.labels.annotation_log_reader import LoggedAnnotation
from onibus.schemas.records import Annotation, Origin, Verdict
from onibus.schemas.verdict_in_force import overrides, verdict_of


@dataclass(slots=True)
class FoldedLabel:
    """One label, with the totals of its annotations.

    Attributes:
        verdict: the one in force; None: withdrawn.
        origin: of the deciding annotation, like the fields from here to ``written_at``.
        annotated_at: microseconds since the epoch, UTC, like ``observed_at``.
        written_at: when it was appended to the log, milliseconds since the epoch, UTC.
        partition: of the annotation log, and so of ``captions`` and ``labels``.
        by_annotators: the last verdict of a model or the rules, whatever a person said; None if withdrawn.
        annotations: number of annotations of this subject; tokens and latency (microseconds) are their sums.
        probability: of helpful, of two captions of the first, by the deciding annotation; None where no
            probabilities were read.
        differing: annotations that said something else than what was in force when they came.
        was_flipped: whether the verdict is that of one answer, which was turned into its opposite for an
            experiment.
    """

    spec_id: bytes
    subject_id: bytes
    texts: tuple[str, ...]
    verdict: Verdict | None
    origin: Origin
    annotator: str
    reason: str
    observed_at: int
    annotated_at: int
    written_at: int
    partition: int
    offset: int
    by_annotators: Verdict | None = None
    annotations: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    latency_us: int = 0
    probability: float | None = None
    differing: int = 0
    was_flipped: bool = False

    @property
    def by_person(self) -> bool:
        """Whether a person's verdict is in force."""
        return self.origin is Origin.HUMAN and self.verdict is not None

    @property
    def text(self) -> str:
        """The caption, or both of a comparison."""
        return " | ".join(self.texts)


class LabelFold:
    """The newest verdict on each subject under each spec; a person's overrides a model's until withdrawn.

    The rule is in :mod:`onibus.schemas.verdict_in_force`; this keeps who, when and how much.
    Annotations of a subject are applied in the order of their partition; the order between partitions makes
    no difference. Memory grows with subjects, not with annotations: 1.1 to 1.4 KB each, captions and reasons
    of usual length included (``onibus bench replay``).
    """

    def __init__(self, logged: Iterable[LoggedAnnotation] = ()) -> None:
        self._labels: dict[bytes, FoldedLabel] = {}
        self.annotations = 0
        for one in logged:
            self.apply(one)

    def forget_oldest(self, most: int) -> list[bytes]:
        """Keep the ``most`` subjects that came up last; the ids of the others, which are forgotten."""
        surplus = len(self._labels) - most
        if surplus <= 0:
            return []
        gone = [label.subject_id for label in islice(self._labels.values(), surplus)]
        self._labels = dict(islice(self._labels.items(), surplus, None))
        return gone

    def __len__(self) -> int:
        """Number of subjects, withdrawn ones included."""
        return len(self._labels)

    def __iter__(self) -> Iterator[FoldedLabel]:
        return iter(self._labels.values())

    def get(self, spec_id: bytes, subject_id: bytes) -> FoldedLabel | None:
        """The label of one subject; None if it was never judged."""
        return self._labels.get(spec_id + subject_id)

    def apply(self, logged: LoggedAnnotation) -> None:
        """Apply the next record; one without an annotation changes nothing."""
        annotation = logged.annotation
        if annotation is None:
            return
        self.annotations += 1
        key = annotation.spec_id + annotation.subject_id
        before = self._labels.get(key)
        if before is None or overrides(annotation, before.by_person):
            self._labels[key] = _folded(logged, annotation, before)
            return
        before.differing += _differs(annotation, before)
        before.by_annotators = annotation.verdict  # by a model or the rules: anything else overrides
        before.annotations += 1
        before.tokens_in += annotation.tokens_in
        before.tokens_out += annotation.tokens_out
        before.latency_us += annotation.latency_us


def _folded(logged: LoggedAnnotation, annotation: Annotation, before: FoldedLabel | None) -> FoldedLabel:
    """The label that ``annotation`` decides. Positional arguments are twice as fast as named ones."""
    origin = annotation.origin
    verdict = verdict_of(annotation)
    if before is None:
        spec_id, subject_id, texts = annotation.spec_id, annotation.subject_id, annotation.texts
        by_annotators, annotations, tokens_in, tokens_out, latency_us = None, 1, 0, 0, 0
        differing = 0
    else:
        spec_id, subject_id, texts = before.spec_id, before.subject_id, annotation.texts
        by_annotators, annotations = before.by_annotators, before.annotations + 1
        tokens_in, tokens_out, latency_us = before.tokens_in, before.tokens_out, before.latency_us
        differing = before.differing + _differs(annotation, before)
    return FoldedLabel(
        spec_id,
        subject_id,
        texts,
        verdict,
        origin,
        intern(annotation.annotator),
        annotation.reason,
        annotation.observed_at,
        annotation.annotated_at,
        logged.written_at,
        logged.partition,
        logged.offset,
        by_annotators if origin is Origin.HUMAN else verdict,
        annotations,
        tokens_in + annotation.tokens_in,
        tokens_out + annotation.tokens_out,
        latency_us + annotation.latency_us,
        annotation.probability,
        differing,
        annotation.was_flipped and annotation.said is None,
    )


def _differs(annotation: Annotation, before: FoldedLabel) -> bool:
    """Whether it says something else than what is in force; a withdrawal says nothing."""
    verdict = verdict_of(annotation)
    return verdict is not None and before.verdict is not None and verdict is not before.verdict


def label_json(label: FoldedLabel, spec_name: str) -> dict[str, Any]:
    """A label as JSON."""
    return {
        "spec": spec_name,
        "spec_id": label.spec_id.hex(),
        "subject_id": label.subject_id.hex(),
        "texts": list(label.texts),
        "verdict": label.verdict.value if label.verdict else None,
        "origin": label.origin.value,
        "annotator": label.annotator,
        "reason": label.reason,
        "observed_at": iso(label.observed_at),
        "annotated_at": iso(label.annotated_at),
        "partition": label.partition,
        "offset": label.offset,
        "probability": label.probability,
        "was_flipped": label.was_flipped,
        "annotations": label.annotations,
        "tokens_in": label.tokens_in,
        "tokens_out": label.tokens_out,
        "latency_us": label.latency_us,
    }


def iso(microseconds: int) -> str:
    """A time of a record in ISO 8601, UTC."""
    return datetime.fromtimestamp(microseconds / 1e6, UTC).isoformat(timespec="milliseconds")
