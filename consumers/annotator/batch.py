"""What one transaction of an annotator writes, and the records that answers become."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from onibus.consumers.annotator.cost import Cost, Prices
from onibus.consumers.annotator.pending import PendingCaption
from onibus.consumers.labels.table import lookup_ids
from onibus.consumers.language_models.base import Answer, Attempt, JudgeName
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.kafka.transactions import OutgoingRecord
from onibus.schemas import ids
from onibus.schemas.codec import Codec
from onibus.schemas.records import (
    Annotation,
    AnnotationSpec,
    CaptionOffset,
    DeadLetter,
    Label,
    Origin,
    Record,
    Verdict,
)

LONGEST_RAW_ANSWER = 50_000
"""Characters of a model's answer that are kept."""
LARGEST_DEAD_LETTER = 700_000
"""Bytes of a record kept in its dead letter; Kafka takes a megabyte. A larger one stays at its offset."""
VALUE_LEFT_OUT = "(value left out, it is at its source)"
"""End of the reason of a dead letter without its record's value."""
_COMPONENT = "annotator"
_LETTER_BYTES = 4_096
"""Room in a dead letter for everything but the record's value."""
_ANNOTATION_BYTES = 8_192
"""Room in an annotation for everything but the answer and the reason read from it."""
_TEXT_BYTES = 8
"""Of these two, bytes for each character of the longer one."""
_ROOMY = 1 << 20


class WrittenLabel(NamedTuple):
    """A label of a batch, for those who count."""

    spec_id: bytes
    verdict: Verdict
    observed_at: int
    was_waiting: bool


@dataclass(slots=True)
class Batch:
    """What one transaction writes.

    Attributes:
        offsets: by partition of ``captions``, the next one to read.
        marks: by partition, the last record read there
            (see :mod:`onibus.infra.kafka.same_log_check`).
        captions: whose labels are in it; they are owed until it is committed.
        assignments: by partition, the ownership in which it was put together.
    """

    records: list[OutgoingRecord] = field(default_factory=list)
    offsets: dict[int, int] = field(default_factory=dict)
    marks: dict[int, str] = field(default_factory=dict)
    captions: list[PendingCaption] = field(default_factory=list)
    assignments: dict[int, int] = field(default_factory=dict)
    labels: list[WrittenLabel] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    dead_letters: int = 0


class Subject(NamedTuple):
    """What gets a label: a caption, or a pair that it leads to, with where its captions stand."""

    spec_id: bytes
    subject_id: bytes
    texts: tuple[str, ...]
    sources: tuple[CaptionOffset, ...]

    @classmethod
    def single(cls, spec_id: bytes, caption: PendingCaption) -> Subject:
        """One caption under a spec."""
        here = CaptionOffset(caption.partition, caption.offset)
        return cls(spec_id, caption.caption_id, (caption.text,), (here,))

    @property
    def key(self) -> tuple[bytes, bytes]:
        return self.spec_id, self.subject_id


class Unreadable(NamedTuple):
    """A record that becomes a dead letter, and why."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    reason: str


class BatchRecords:
    """Makes records of answers.

    Args:
        specs: what was asked, by spec id.
        origin: who answers.
        name: the annotator's, for the records.
        codec: writes records.
        topics: full topic names.
        prices: of the model's tokens, recorded with each answer; None where they are not known.

    Attributes:
        specs, codec, topics: as given.
    """

    def __init__(
        self,
        specs: Mapping[bytes, AnnotationSpec],
        origin: Origin,
        name: str,
        codec: Codec,
        topics: TopicNames,
        prices: Prices | None = None,
    ) -> None:
        self.specs, self.codec, self.topics = dict(specs), codec, topics
        self._origin, self._name, self._prices = origin, name, prices
        self._ready_at: int | None = None
        self._largest_letter, self._longest_answer = LARGEST_DEAD_LETTER, LONGEST_RAW_ANSWER

    def limit(self, largest: Mapping[str, int]) -> None:
        """Keep records within what the topics take, in bytes by full topic name."""
        letter = largest.get(self.topics.dead_letters, LARGEST_DEAD_LETTER) - _LETTER_BYTES
        self._largest_letter = min(LARGEST_DEAD_LETTER, letter)
        room = (largest.get(self.topics.annotations, _ROOMY) - _ANNOTATION_BYTES) // _TEXT_BYTES
        self._longest_answer = max(0, min(LONGEST_RAW_ANSWER, room))

    def ready_at(self, moment: int) -> None:
        """What was observed before this, microseconds since the epoch, had to wait for this annotator."""
        self._ready_at = moment

    def judged(
        self,
        batch: Batch,
        caption: PendingCaption,
        subject: Subject,
        answer: Answer,
        now: int,
        *,
        with_label: bool,
        again: bool = False,
    ) -> None:
        """Add an answer's annotations, its label if wanted, and a dead letter where it was given up.

        Args:
            again: whether it is a further answer, whose time says nothing of how long a label takes.
        """
        key = ids.label_key(*subject.key)
        was_waiting = again or self._was_waiting(caption)
        annotations = self._annotations(caption, subject, answer, now, was_waiting)
        if with_label:
            label = Label(
                verdict=answer.verdict,
                caption_partition=caption.partition,
                caption_offset=caption.offset,
                observed_at=caption.observed_at,
                annotated_at=annotations[-1].annotated_at,
                annotator=self._name,
                confidence=answer.confidence,
                leader=ids.leader_of(subject.texts),
            )
            self._add(batch, self.topics.labels, caption.partition, key, label)
            written = WrittenLabel(subject.spec_id, answer.verdict, caption.observed_at, was_waiting)
            if not again:
                batch.labels.append(written)
        for annotation in annotations:
            self._add(batch, self.topics.annotations, caption.partition, key, annotation)
        if answer.given_up:
            source = (self.topics.captions, caption.partition, caption.offset, caption.caption_id)
            given_up = Unreadable(*source, caption.value, answer.given_up)
            self.unreadable(batch, given_up, now, subject.spec_id, len(annotations))

    def unreadable(
        self, batch: Batch, source: Unreadable, now: int, spec_id: bytes | None = None, attempts: int = 1
    ) -> None:
        """Add the dead letter of a record."""
        fits = source.value is None or len(source.value) <= self._largest_letter
        letter = DeadLetter(
            source_topic=source.topic,
            source_partition=source.partition,
            source_offset=source.offset,
            component=_COMPONENT,
            reason=source.reason if fits else f"{source.reason} {VALUE_LEFT_OUT}",
            attempts=attempts,
            spec_id=spec_id,
            original_key=source.key,
            original_value=source.value if fits else None,
            failed_at=now,
        )
        self._add(batch, self.topics.dead_letters, 0, source.key, letter)
        batch.dead_letters += 1

    def _annotations(
        self, caption: PendingCaption, subject: Subject, answer: Answer, now: int, was_waiting: bool
    ) -> list[Annotation]:
        """One for each attempt, numbered by judge; one also where nothing at all came back."""
        nothing = Attempt(None, "", answer.given_up, bytes(16), 0, 0, 0, now)
        spec = self.specs[subject.spec_id]
        alone = JudgeName(spec.model, spec.model_revision, self._origin)
        return [
            Annotation(
                spec_id=subject.spec_id,
                subject_id=subject.subject_id,
                texts=subject.texts,
                verdict=attempt.verdict or Verdict.UNSURE,
                origin=judge.origin,
                sources=subject.sources,
                prompt_hash=attempt.prompt_hash,
                model=judge.model,
                model_revision=judge.revision,
                sampling=spec.sampling,
                raw_answer=attempt.raw_answer[: self._longest_answer],
                reason=attempt.reason[: self._longest_answer],
                tokens_in=attempt.tokens_in,
                tokens_out=attempt.tokens_out,
                latency_us=attempt.latency_us,
                attempt=number,
                annotator=self._name,
                observed_at=caption.observed_at,
                annotated_at=attempt.answered_at,
                tokens_are_estimated=attempt.tokens_are_estimated,
                usd=self._usd(attempt, judge.origin),
                probability=attempt.probability,
                was_waiting=was_waiting,
                was_flipped=attempt.was_flipped,
                said=attempt.said,
            )
            for judge, number, attempt in _by_judge(answer.attempts or (nothing,), alone)
        ]

    def _was_waiting(self, caption: PendingCaption) -> bool:
        return self._ready_at is None or caption.observed_at < self._ready_at

    def _usd(self, attempt: Attempt, origin: Origin) -> float | None:
        if attempt.usd is not None or self._prices is None or origin is not Origin.LLM:
            return attempt.usd
        return self._prices.usd(Cost.of(attempt))

    def _add(self, batch: Batch, topic: str, partition: int, key: bytes | None, record: Record) -> None:
        batch.records.append(OutgoingRecord(topic, partition, key, self.codec.encode(topic, record)))


def _by_judge(attempts: Sequence[Attempt], alone: JudgeName) -> Iterator[tuple[JudgeName, int, Attempt]]:
    """Each attempt with who made it, and which attempt of theirs it is, from 1."""
    counts: Counter[JudgeName] = Counter()
    for attempt in attempts:
        judge = attempt.judge or alone
        counts[judge] += 1
        yield judge, counts[judge], attempt


def lookups_of(caption_ids: Sequence[bytes | None]) -> NDArray[np.int64]:
    """Look-up ids of caption ids of 16 bytes: int64 (n,); as :func:`onibus.schemas.ids.lookup_id`."""
    words = np.frombuffer(b"".join(caption_ids), "<i8")  # type: ignore[arg-type]
    return lookup_ids(words[::2])
