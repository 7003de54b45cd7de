"""Writes labels of people and of programs other than annotators: label and annotation in one transaction."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

from kafka import KafkaProducer

from onibus.infra.errors import OnibusError
from onibus.infra.kafka.codecs import codec_for
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
from onibus.schemas.records import Annotation, Label
from onibus.schemas.verdict_in_force import verdict_of

_log = logging.getLogger(__name__)

_CHANGES_PER_TRANSACTION = 500
_MOST_TRIES = 20
_LONGEST_PAUSE_SECONDS = 0.5
_KEPT_SECONDS = 60.0
LEADER = "onibus-leader"
"""Header of the withdrawal of a comparison: the caption that led to it, which has no value to stand in."""
NO_SOURCE = -1
"""Caption offset of a label that was not caused by a caption record."""


@dataclass(frozen=True, slots=True)
class Change:
    """What is written about one subject: annotations, and their effect on its label.

    Attributes:
        partition: of the subject's caption.
        decides: the one of the annotations that is in force afterwards; None: the label does not change.
    """

    partition: int
    annotations: tuple[Annotation, ...]
    decides: Annotation | None


def single_change(partition: int, annotation: Annotation) -> Change:
    """The change by a person's verdict or a withdrawal, which is in force at once."""
    return Change(partition, (annotation,), annotation)


class LabelWriter:
    """Writes changes in transactions, all of each or nothing.

    Usable as a context manager. An instance that is kept writes one change after another over the same
    connection, which it opens again after an error, or after a minute without writing; one thread at a time.

    All writers use the same transactional id, so one transaction at a time is open: a later writer fences the
    current one, which then retries. So two corrections of one label have the same order on both topics.

    Raises:
        OnibusError: the cluster cannot be reached, or refuses.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings, self._codec = settings, codec_for(settings)
        self._topics = TopicNames(settings.topic_prefix)

        self._producer: KafkaProducer | None = None
        self._used_at = 0.0

    def __enter__(self) -> LabelWriter:
        self._open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection, if one is open."""
        if self._producer is not None:
            producer, self._producer = self._producer, None
            give_up(producer)

    def write(self, changes: Iterable[Change], progress: Callable[[int], None] = lambda _: None) -> int:
        """Write changes, 500 per transaction, and call ``progress`` with the number of each.

        Returns:
            How many were written.

        Raises:
            OnibusError: the cluster does not accept one; those before are written.
        """
        if time.monotonic() > self._used_at + _KEPT_SECONDS:
            self.close()
        written, rest = 0, iter(changes)
        while part := list(islice(rest, _CHANGES_PER_TRANSACTION)):
            self._write_one([record for change in part for record in self._records(change)], written)
            written, self._used_at = written + len(part), time.monotonic()
            progress(len(part))
        return written

    def _write_one(self, records: Sequence[OutgoingRecord], before: int) -> None:
        for _ in range(_MOST_TRIES):
            producer = self._producer or self._open()
            try:
                within_patience(partial(send_transaction, producer, records))
                return
            except TransactionFailedError as error:
                self.close()
                if not error.was_fenced:
                    raise OnibusError(
                        f"the cluster did not confirm the change after {before:,} others ({error}); "
                        "check with: onibus labels show, then repeat the command"
                    ) from error
            _log.info("another writer took over; retrying")
            time.sleep(random.uniform(0, _LONGEST_PAUSE_SECONDS))
        raise OnibusError(
            "other writers kept taking over, and only one can write labels at a time; try again later"
        )

    def _records(self, change: Change) -> list[OutgoingRecord]:
        labels, annotations = self._topics.labels, self._topics.annotations
        key = ids.label_key(change.annotations[0].spec_id, change.annotations[0].subject_id)
        records = [
            OutgoingRecord(annotations, change.partition, key, self._codec.encode(annotations, annotation))
            for annotation in change.annotations
        ]
        if change.decides is not None:
            label = _label(change.decides, change.partition)
            value = None if label is None else self._codec.encode(labels, label)
            leader = ids.leader_of(change.decides.texts) if label is None else None
            headers = () if leader is None else ((LEADER, leader),)
            records.append(OutgoingRecord(labels, change.partition, key, value, headers))
        return records

    def _open(self) -> KafkaProducer:
        transactional_id = f"{self._settings.topic_prefix}label-corrections"
        self._producer = open_producer(self._settings, transactional_id)
        self._used_at = time.monotonic()
        return self._producer


def _label(annotation: Annotation, partition: int) -> Label | None:
    """The label of an annotation; None for a withdrawal."""
    if (verdict := verdict_of(annotation)) is None:
        return None
    return Label(
        verdict=verdict,
        caption_partition=partition,
        caption_offset=NO_SOURCE,
        observed_at=annotation.observed_at,
        annotated_at=annotation.annotated_at,
        annotator=annotation.annotator,
        leader=ids.leader_of(annotation.texts),
    )
