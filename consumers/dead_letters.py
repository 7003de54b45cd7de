"""Dead letters: listing them, and sending them to the annotators again.

A letter is sent again in one transaction: the record to where it came from, the withdrawal of the ``unsure``
label that it got, and a mark on ``dead-letters`` that names the letter. All commands share one transactional
id and read the log only once they own it. So nothing is sent twice, even if a redrive is repeated, runs twice
at the same time, or runs again after an error.

An annotator that reads such a record has to see the withdrawal first, although it is on another topic: see
:data:`onibus.consumers.annotator.partition_readers.SENT_AGAIN`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

import numpy as np
from kafka import KafkaProducer

from onibus.consumers.annotator.batch import VALUE_LEFT_OUT
from onibus.consumers.annotator.partition_readers import SENT_AGAIN
from onibus.consumers.labels.corrections import CorrectedSubject, annotation_by
from onibus.consumers.labels.reader import read_labels
from onibus.consumers.labels.table import VERDICTS, LabelTable
from onibus.infra.errors import OnibusError
from onibus.infra.kafka.codecs import codec_for, read_decoded
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.kafka.transactions import (
    OutgoingRecord,
    TransactionFailedError,
    give_up,
    open_producer,
    send_transaction,
    within_patience,
)
from onibus.infra.settings import Settings
from onibus.schemas import ids
from onibus.schemas.codec import Codec
from onibus.schemas.records import Annotation, CaptionObserved, CaptionOffset, DeadLetter, Origin, Verdict

REDRIVE = "redrive"
"""Component of the marks: a letter of this component marks another letter as sent again."""

_LETTERS_PER_TRANSACTION = 500


@dataclass(frozen=True, slots=True)
class Entry:
    """One letter on the topic, and when it was sent again (microseconds since the epoch), if it was."""

    partition: int
    offset: int
    letter: DeadLetter
    redriven_at: int | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """Selects letters; parts that are not given match any. Times in microseconds since the epoch."""

    reason: str = ""
    since: int | None = None
    until: int | None = None
    spec_ids: frozenset[bytes] | None = None

    def holds(self, letter: DeadLetter) -> bool:
        """Whether this letter is selected; ``reason`` may be anywhere in its reason, ignoring case."""
        return (
            self.reason.casefold() in letter.reason.casefold()
            and (self.since is None or letter.failed_at >= self.since)
            and (self.until is None or letter.failed_at < self.until)
            and (self.spec_ids is None or letter.spec_id in self.spec_ids)
        )


class Fate(StrEnum):
    """What redriving does with a letter."""

    SEND = "sent again"
    SENT = "already sent again"
    LABELLED = "labelled since"
    LEFT_OUT = "too large, only its source has its value"
    NO_CAPTION = "not a caption, left as it is"


def entries(settings: Settings) -> list[Entry]:
    """Every readable letter on the topic, oldest first.

    Raises:
        OnibusError: the cluster cannot be reached or has no such topic.
    """
    topic = TopicNames(settings.topic_prefix).dead_letters
    found = [
        Entry(record.partition, record.offset, letter)
        for record, letter in read_decoded(settings, topic, DeadLetter)
    ]
    return with_marks(found, topic)


def with_marks(found: Sequence[Entry], topic: str) -> list[Entry]:
    """The letters among ``found``, oldest first, each with the time of its mark; ``topic`` is theirs."""
    marks = {
        (e.letter.source_partition, e.letter.source_offset): e.letter.failed_at
        for e in found
        if _is_mark(e.letter, topic)
    }
    letters = (
        Entry(e.partition, e.offset, e.letter, marks.get((e.partition, e.offset)))
        for e in found
        if not _is_mark(e.letter, topic)
    )
    return sorted(letters, key=lambda e: (e.letter.failed_at, e.partition, e.offset))


def fate(entry: Entry, captions: str, in_force: Callable[[bytes, bytes], Verdict | None]) -> Fate:
    """What redriving does with this letter.

    Args:
        captions: full name of the topic of captions.
        in_force: the verdict in force for a spec id and a caption id.
    """
    letter = entry.letter
    if entry.redriven_at is not None:
        return Fate.SENT
    if letter.source_topic != captions:
        return Fate.NO_CAPTION
    if letter.original_value is None and letter.reason.endswith(VALUE_LEFT_OUT):
        return Fate.LEFT_OUT
    if letter.spec_id is not None and letter.original_key is not None:
        verdict = in_force(letter.spec_id, letter.original_key)
        if verdict not in (None, Verdict.UNSURE):
            return Fate.LABELLED
    return Fate.SEND


def redrive(settings: Settings, selection: Selection, dry_run: bool = False) -> Counter[Fate]:
    """Send the letters of ``selection`` again; returns how many letters had which fate.

    Raises:
        OnibusError: the cluster cannot be reached or does not accept it, or another redrive has started.
    """
    redriver = _Redriver(settings)
    if dry_run:
        return Counter(fate for _, fate in redriver.plan(selection))
    producer = open_producer(settings, f"{settings.topic_prefix}dead-letters.redrive")
    try:
        plan = redriver.plan(selection)
        chosen = [entry for entry, fate in plan if fate is Fate.SEND]
        for start in range(0, len(chosen), _LETTERS_PER_TRANSACTION):
            redriver.send(producer, chosen[start : start + _LETTERS_PER_TRANSACTION], start)
        return Counter(fate for _, fate in plan)
    finally:
        give_up(producer)


def _is_mark(letter: DeadLetter, topic: str) -> bool:
    return letter.component == REDRIVE and letter.source_topic == topic


class _Redriver:
    """Plans and writes, for one command."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._names = settings, TopicNames(settings.topic_prefix)
        self._codec: Codec = codec_for(settings)
        self._labels = LabelTable(self._codec)
        self._sent: set[bytes | None] = set()

    def plan(self, selection: Selection) -> list[tuple[Entry, Fate]]:
        chosen = [entry for entry in entries(self._settings) if selection.holds(entry.letter)]
        if any(entry.letter.spec_id is not None for entry in chosen):
            self._labels = read_labels(self._settings)
        return [(entry, fate(entry, self._names.captions, self._in_force)) for entry in chosen]

    def send(self, producer: KafkaProducer, chosen: Sequence[Entry], sent_before: int) -> None:
        """Send these again, all or nothing."""
        records = [record for entry in chosen for record in self._records(entry)]
        try:
            within_patience(partial(send_transaction, producer, records))
        except TransactionFailedError as error:
            why = f"the cluster did not accept more: {error}"
            if error.was_fenced:
                why = "another redrive was started"
            raise OnibusError(
                f"{sent_before} letters were sent again, then {why}; run it again, nothing is sent twice"
            ) from error

    def _records(self, entry: Entry) -> Iterator[OutgoingRecord]:
        letter, now = entry.letter, time.time_ns() // 1000
        place, original_key = letter.source_partition, letter.original_key
        if (unsure := self._unsure(letter)) is not None:
            topic, key = self._names.annotations, ids.label_key(*unsure)
            yield OutgoingRecord(self._names.labels, place, key, None)
            withdrawal = self._withdrawal(letter, *unsure, now)
            yield OutgoingRecord(topic, place, key, self._codec.encode(topic, withdrawal))
            self._labels.apply([key], [None])
        if original_key is None or original_key not in self._sent:  # once for all specs
            self._sent.add(original_key)
            headers = [(SENT_AGAIN, f"{entry.partition}-{entry.offset}".encode())]
            yield OutgoingRecord(letter.source_topic, place, original_key, letter.original_value, headers)
        mark = DeadLetter(
            source_topic=self._names.dead_letters,
            source_partition=entry.partition,
            source_offset=entry.offset,
            component=REDRIVE,
            reason=Fate.SEND.value,
            attempts=1,
            spec_id=letter.spec_id,
            original_key=original_key,
            original_value=None,
            failed_at=now,
        )
        topic = self._names.dead_letters
        yield OutgoingRecord(topic, entry.partition, original_key, self._codec.encode(topic, mark))

    def _unsure(self, letter: DeadLetter) -> tuple[bytes, bytes] | None:
        """Spec id and caption id of the ``unsure`` label that the letter got, if it is in force."""
        spec_id, caption_id = letter.spec_id, letter.original_key
        if spec_id is None or caption_id is None or self._in_force(spec_id, caption_id) is not Verdict.UNSURE:
            return None
        return spec_id, caption_id

    def _in_force(self, spec_id: bytes, caption_id: bytes) -> Verdict | None:
        if len(caption_id) != ids.CAPTION_ID_BYTES:
            return None
        wanted = np.array([ids.lookup_id(caption_id)], np.int64)
        return VERDICTS.get(int(self._labels.verdicts(spec_id, wanted)[0]))

    def _withdrawal(self, letter: DeadLetter, spec_id: bytes, caption_id: bytes, now: int) -> Annotation:
        caption = self._codec.decode(CaptionObserved, letter.original_value)
        subject = CorrectedSubject(caption_id, (caption.text,), letter.source_partition, caption.observed_at)
        note = f"dead letter sent again: {letter.reason}"
        source = CaptionOffset(letter.source_partition, letter.source_offset)
        return annotation_by(subject, spec_id, None, Origin.WITHDRAWAL, REDRIVE, note, now, sources=(source,))
