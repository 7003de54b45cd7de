"""The annotation log folded to labels: what is in force for each subject, who said so, and what it cost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from consumers.replay.annotation_reader import LoggedAnnotation
from schemas.records import Annotation, Origin, Verdict


@dataclass(slots=True)
class FoldedLabel:
    """One label with what its annotations add up to.

    Attributes:
        verdict: in force; None: withdrawn.
        origin: of the annotation that decides; the fields from here to ``written_at`` are its.
        annotated_at: microseconds since the epoch, UTC, as is ``observed_at``.
        written_at: when it came on the log, milliseconds since the epoch, UTC.
        partition: of the annotation log, so of ``captions`` and ``labels`` too.
        by_annotators: what models or rules said last, whatever a person said; None after a withdrawal.
        annotations: how many there are about this subject; tokens and latency (microseconds) are their sums.
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

    @property
    def by_person(self) -> bool:
        """Whether a person's word is in force."""
        return self.origin is Origin.HUMAN and self.verdict is not None

    @property
    def text(self) -> str:
        """The caption, or both of a comparison."""
        return " | ".join(self.texts)


class LabelFold:
    """The newest verdict on each subject under each spec; a person's stands over a model's until withdrawn.

    That is the rule of :class:`~consumers.reward_models.labelled_captions.LabelledCaptions`, of which it
    differs in keeping who, when and how much. Annotations of a subject are applied in the order of their
    partition; that of different partitions makes no difference. Memory grows with subjects, not annotations:
    about 1.4 KB each, words and reasons of the usual length included (``onibus bench replay``).
    """

    def __init__(self, logged: Iterable[LoggedAnnotation] = ()) -> None:
        self._labels: dict[bytes, FoldedLabel] = {}
        self.annotations = 0
        for one in logged:
            self.apply(one)

    def __len__(self) -> int:
        """Number of subjects, withdrawn ones included."""
        return len(self._labels)

    def __iter__(self) -> Iterator[FoldedLabel]:
        return iter(self._labels.values())

    def get(self, spec_id: bytes, subject_id: bytes) -> FoldedLabel | None:
        """What is known of one subject."""
        return self._labels.get(spec_id + subject_id)

    def apply(self, logged: LoggedAnnotation) -> None:
        """Take over the next record; one without an annotation changes nothing."""
        annotation = logged.annotation
        if annotation is None:
            return
        self.annotations += 1
        key = annotation.spec_id + annotation.subject_id
        before = self._labels.get(key)
        if before is None or overrides(annotation, before.by_person):
            label = self._labels[key] = _folded(logged, annotation)
            if before is not None:
                _add_cost(label, before.annotations, before.tokens_in, before.tokens_out, before.latency_us)
                label.by_annotators = before.by_annotators
        else:
            label = before
        if annotation.origin is not Origin.HUMAN:
            label.by_annotators = None if annotation.origin is Origin.WITHDRAWAL else annotation.verdict
        _add_cost(label, 1, annotation.tokens_in, annotation.tokens_out, annotation.latency_us)


def overrides(annotation: Annotation, by_person: bool) -> bool:
    """Whether an annotation decides over an earlier one, which may be a person's."""
    return not by_person or annotation.origin in (Origin.HUMAN, Origin.WITHDRAWAL)


def _folded(logged: LoggedAnnotation, annotation: Annotation) -> FoldedLabel:
    withdrawn = annotation.origin is Origin.WITHDRAWAL
    return FoldedLabel(
        spec_id=annotation.spec_id,
        subject_id=annotation.subject_id,
        texts=annotation.texts,
        verdict=None if withdrawn else annotation.verdict,
        origin=annotation.origin,
        annotator=annotation.annotator,
        reason=annotation.reason,
        observed_at=annotation.observed_at,
        annotated_at=annotation.annotated_at,
        written_at=logged.written_at,
        partition=logged.partition,
        offset=logged.offset,
    )


def _add_cost(label: FoldedLabel, annotations: int, tokens_in: int, tokens_out: int, latency_us: int) -> None:
    label.annotations += annotations
    label.tokens_in += tokens_in
    label.tokens_out += tokens_out
    label.latency_us += latency_us


def label_json(label: FoldedLabel, spec_name: str) -> dict[str, Any]:
    """A label for a program to read."""
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
        "annotations": label.annotations,
        "tokens_in": label.tokens_in,
        "tokens_out": label.tokens_out,
        "latency_us": label.latency_us,
    }


def iso(microseconds: int) -> str:
    """A time of a record in ISO 8601, UTC."""
    return datetime.fromtimestamp(microseconds / 1e6, UTC).isoformat(timespec="milliseconds")
