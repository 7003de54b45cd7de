"""Corrections by people: verdicts set by hand, withdrawals, and captions to be judged again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from kafka.errors import KafkaError

from onibus.consumers.labels.fold import FoldedLabel, LabelFold
from onibus.consumers.labels.reader import LabelReader
from onibus.consumers.labels.table import NO_LABEL, LabelTable
from onibus.consumers.labels.writer import Change, single_change
from onibus.consumers.specs.answer_format import WORDS
from onibus.infra.errors import OnibusError
from onibus.infra.kafka import clients
from onibus.infra.kafka.clock import explained
from onibus.infra.kafka.codecs import codec_for
from onibus.infra.kafka.topic_admin import require_partitions
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.settings import Settings
from onibus.schemas import ids
from onibus.schemas.records import (
    Annotation,
    AnnotationSpec,
    CaptionObserved,
    CaptionOffset,
    Kind,
    Origin,
    Verdict,
)

RUN_OF_REPEATS = "asked-again"
"""The run in caption records that are published to be judged again."""

FOLLOWED_SECONDS = 2.0
"""How long after the withdrawal of their labels captions are published: annotators check for changed labels
every quarter of a second, and skip a caption that still has its label."""
_PUBLISHED_AGAIN_SECONDS = 10.0
_LOOK_SECONDS = 0.5
_SEND_SECONDS = 60.0
_BURST = 1_000
_SHORTEST_PREFIX = 4
_NOWHERE = -1


@dataclass(frozen=True, slots=True)
class CorrectedSubject:
    """What is judged: one caption, or two; ``partition`` is that of its labels and annotations."""

    subject_id: bytes
    texts: tuple[str, ...]
    partition: int
    observed_at: int


class SubjectName:
    """How a person names a subject: by the first digits of its id, or by the whole caption."""

    def __init__(self, given: str) -> None:
        self.given = given
        self._exact = ids.caption_id(given)
        self._prefix = given.lower() if len(given) >= _SHORTEST_PREFIX else None

    def may_be(self, key: bytes) -> bool:
        """Whether an annotation with this key can be about a subject of this name."""
        subject = key[ids.SPEC_ID_BYTES :]
        return subject == self._exact or (self._prefix is not None and subject.hex().startswith(self._prefix))

    def find(self, labels: LabelFold) -> CorrectedSubject:
        """The subject of this name among ``labels``.

        Raises:
            OnibusError: there is none, or there are several.
        """
        found = {
            label.subject_id: CorrectedSubject(
                label.subject_id, label.texts, label.partition, label.observed_at
            )
            for label in labels
            if self.may_be(label.spec_id + label.subject_id)
        }
        if self._exact in found:
            return found[self._exact]
        if not found:
            raise OnibusError(
                f"no caption {self.given!r} was ever judged; give the first digits of an id from: "
                "onibus labels list, or the whole caption exactly as printed"
            )
        if len(found) > 1:
            several = ", ".join(sorted(subject.hex() for subject in found)[:3])
            raise OnibusError(f"{len(found)} ids begin with {self.given} ({several}, …); give more digits")
        return next(iter(found.values()))


def new_caption(settings: Settings, text: str, now: int) -> CorrectedSubject:
    """A caption that no one has judged yet, in the partition to which rollout workers publish it.

    Raises:
        OnibusError: captions are on the bus by another number of partitions than the setting says.
    """
    require_partitions(settings)
    caption_id = ids.caption_id(text)
    return CorrectedSubject(caption_id, (text,), ids.caption_partition(caption_id, settings.partitions), now)


def set_by_hand(
    subject: CorrectedSubject,
    spec_id: bytes,
    spec: AnnotationSpec,
    verdict: Verdict,
    person: str,
    note: str,
    now: int,
) -> Change:
    """A person's verdict, which overrides every later answer of a model until it is withdrawn.

    Args:
        now: microseconds since the epoch.

    Raises:
        OnibusError: the specification has no such verdict.
    """
    if verdict not in WORDS[spec.kind] or (len(subject.texts) == 1) != (spec.kind is Kind.JUDGE_ONE):
        allowed = ", ".join(v.value for v in WORDS[spec.kind])
        what = "one caption" if spec.kind is Kind.JUDGE_ONE else "two captions"
        raise OnibusError(f"spec {spec.name} judges {what}, its verdicts are {allowed}; choose one of them")
    return single_change(
        subject.partition, annotation_by(subject, spec_id, verdict, Origin.HUMAN, person, note, now)
    )


def withdraw(labels: Iterable[FoldedLabel], person: str, note: str, now: int) -> Iterator[Change]:
    """Withdrawals: no verdict is in force afterwards, not even a person's, and annotators may ask again."""
    for label in labels:
        subject = CorrectedSubject(label.subject_id, label.texts, label.partition, label.observed_at)
        annotation = annotation_by(subject, label.spec_id, None, Origin.WITHDRAWAL, person, note, now)
        yield single_change(label.partition, annotation)


def annotation_by(
    subject: CorrectedSubject,
    spec_id: bytes,
    verdict: Verdict | None,
    origin: Origin,
    annotator: str,
    note: str,
    now: int,
    sources: tuple[CaptionOffset, ...] = (),
) -> Annotation:
    """The annotation of a person, or of a program that asks no model."""
    what = (spec_id, subject.subject_id, subject.texts, verdict, origin, annotator, subject.observed_at, now)
    return Annotation.unasked(*what, reason=note, sources=sources)


class CaptionRepublisher:
    """Has captions judged again: publishes them on ``captions``, and again while they have no label.

    An annotator that starts later restores the withdrawals before it reads the captions. A running one may
    see a caption before the withdrawal of its label and skip it: hence the pause before the first
    publication, and :meth:`wait`, which publishes captions without a label again.
    """

    def __init__(self, settings: Settings, labels: Sequence[FoldedLabel], spec_id: bytes) -> None:
        self._settings, self._spec_id = settings, spec_id
        self._missing = [label for label in labels if len(label.texts) == 1]

    def publish(self) -> int:
        """Publish the captions that have no label yet; returns how many."""
        topic, codec = TopicNames(self._settings.topic_prefix).captions, codec_for(self._settings)
        producer = clients.producer(self._settings)
        try:
            for start in range(0, len(self._missing), _BURST):
                sent = [
                    producer.send(
                        topic,
                        key=label.subject_id,
                        value=codec.encode(topic, _observed_again(label.texts[0])),
                        partition=label.partition,
                    )
                    for label in self._missing[start : start + _BURST]
                ]
                producer.flush(timeout=_SEND_SECONDS)
                for future in sent:
                    future.get(timeout=0)
        except KafkaError as error:
            raise OnibusError(
                f"the cluster does not accept captions: {explained(error)}; labels are already withdrawn, so "
                "the captions are judged when the game shows them again"
            ) from error
        finally:
            producer.close(timeout=1)
        return len(self._missing)

    def wait(self, seconds: float, progress: Callable[[int], None] = lambda _: None) -> int:
        """Wait until all are judged, for at most ``seconds``; returns how many are not."""
        table = LabelTable(codec_for(self._settings))
        reader = LabelReader(self._settings, table)
        reader.load()
        reader.start()
        try:
            began = published = time.monotonic()
            while self._forget_judged(table, progress) and time.monotonic() < began + seconds:
                time.sleep(_LOOK_SECONDS)
                if time.monotonic() > published + _PUBLISHED_AGAIN_SECONDS:
                    self.publish()
                    published = time.monotonic()
        finally:
            reader.stop()
        return len(self._missing)

    def _forget_judged(self, table: LabelTable, progress: Callable[[int], None]) -> int:
        subjects = np.array([ids.lookup_id(label.subject_id) for label in self._missing], np.int64)
        lacking = table.verdicts(self._spec_id, subjects) == NO_LABEL
        before = len(self._missing)
        self._missing = [label for label, lacks in zip(self._missing, lacking, strict=True) if lacks]
        progress(before - len(self._missing))
        return len(self._missing)


def _observed_again(text: str) -> CaptionObserved:
    return CaptionObserved(
        text=text,
        task="",
        run=RUN_OF_REPEATS,
        worker=_NOWHERE,
        environment=_NOWHERE,
        episode=_NOWHERE,
        step=_NOWHERE,
        policy_version=_NOWHERE,
        observed_at=time.time_ns() // 1000,
        captioner="",
    )
