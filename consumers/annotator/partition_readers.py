"""What an annotator reads besides its consumer group: labels of its partitions, and captions again."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Collection, Container, Iterator, Sequence

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import KafkaError, KafkaTimeoutError

from onibus.consumers.annotator.comparison_labels import ComparisonLabels
from onibus.consumers.annotator.pending import OwedRange
from onibus.consumers.labels.table import LabelTable
from onibus.infra.kafka import clients
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.observability import metrics
from onibus.infra.settings import Settings
from onibus.schemas.codec import Codec

SENT_AGAIN = "onibus-sent-again"
"""Header of a caption whose label was withdrawn so that it is judged again. They stand on different topics:
whoever reads the caption has to read ``labels`` up to its end of that moment before looking the label up."""

_RECORDS_PER_POLL = 5_000
_UNREADABLE_KEPT = 1_000


class LabelFeed:
    """Feeds one label table for each partition owned; partitions come and go.

    Args:
        comparing: ids of the specs whose comparisons are counted.
    """

    def __init__(self, settings: Settings, codec: Codec, comparing: Collection[bytes] = ()) -> None:
        self._topic = TopicNames(settings.topic_prefix).labels
        self._codec, self._comparing = codec, frozenset(comparing)
        self._tables: dict[int, ComparisonLabels] = {}
        self._unreadable: list[ConsumerRecord] = []
        self._consumer: KafkaConsumer = clients.consumer(settings, max_poll_records=_RECORDS_PER_POLL)

    def catch_up(self, partition: int, offset: int, timeout: float) -> None:
        """Have everything committed below ``offset`` in the table.

        Raises:
            KafkaTimeoutError: that took longer than ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        while not self.has_passed(partition, offset):
            if time.monotonic() > deadline:
                raise KafkaTimeoutError(f"{self._topic} not read to {offset} in {timeout:g} s")
            self.poll(timeout_ms=50)

    def add(self, partition: int) -> LabelTable:
        """Begin to read a partition of ``labels`` from its beginning; the table fills with every poll."""
        table = self._tables[partition] = ComparisonLabels(self._codec, self._comparing)
        self._assign()
        self._consumer.seek_to_beginning(self._of(partition))
        return table

    def remove(self, partition: int) -> None:
        """Read a partition no longer; nothing happens if it was not read."""
        self.take_unreadable({partition})
        if self._tables.pop(partition, None) is not None:
            self._assign()

    def poll(self, timeout_ms: int) -> None:
        """Apply what has come; unreadable records are counted and kept for :meth:`take_unreadable`."""
        if not self._tables:
            return
        for tp, records in self._consumer.poll(timeout_ms=timeout_ms).items():
            table = self._tables[tp.partition]
            if unreadable := table.apply_records(records):
                keys, values = [r.key for r in records], [r.value for r in records]
                metrics.UNREADABLE.labels(topic=self._topic).inc(unreadable)
                room = _UNREADABLE_KEPT - len(self._unreadable)
                self._unreadable += [records[place] for place in table.unreadable(keys, values)[:room]]

    def take_lost(self) -> set[TopicPartition]:
        """See :meth:`onibus.infra.kafka.lost_positions.MendedConsumer.take_lost`."""
        lost: set[TopicPartition] = self._consumer.take_lost()
        return lost

    def take_unreadable(self, partitions: Container[int]) -> list[ConsumerRecord]:
        """The unreadable records of these partitions since the last call, a thousand at most."""
        taken = [record for record in self._unreadable if record.partition in partitions]
        self._unreadable = [record for record in self._unreadable if record.partition not in partitions]
        return taken

    def has_passed(self, partition: int, offset: int) -> bool:
        """Whether everything committed below ``offset`` is in the table."""
        position = self._consumer.position(self._of(partition), timeout_ms=100)
        return position is not None and position >= offset

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close(timeout_ms=1_000)

    def _assign(self) -> None:
        if self._tables:
            self._consumer.assign([self._of(partition) for partition in self._tables])
        else:
            self._consumer.unsubscribe()

    def _of(self, partition: int) -> TopicPartition:
        return TopicPartition(self._topic, partition)


class CaptionLog:
    """Reads ranges of the ``captions`` log again."""

    def __init__(self, settings: Settings) -> None:
        self._topic = TopicNames(settings.topic_prefix).captions
        self._consumer: KafkaConsumer = clients.consumer(settings, max_poll_records=_RECORDS_PER_POLL)

    def read(
        self, owed: OwedRange, timeout: float, stopping: threading.Event
    ) -> Iterator[list[ConsumerRecord]]:
        """The records that are left of a range, in batches; not to its end if ``stopping`` is set meanwhile.

        Raises:
            TimeoutError: the end was not reached within ``timeout`` seconds.
        """
        tp = TopicPartition(self._topic, owed.partition)
        self._consumer.assign([tp])
        self._consumer.seek(tp, owed.start)
        deadline = time.monotonic() + timeout
        while not stopping.is_set() and (self._consumer.position(tp, timeout_ms=500) or 0) < owed.end:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self._topic} {owed} not read in {timeout:g} s")
            for records in self._consumer.poll(timeout_ms=200).values():
                if inside := [record for record in records if record.offset < owed.end]:
                    yield inside

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(KafkaError):  # the broker may be away
            self._consumer.close(timeout_ms=1_000)


def columns(batch: Sequence[ConsumerRecord]) -> tuple[list[int], list[bytes | None], list[bytes | None]]:
    """Offsets, keys and values of records."""
    return [r.offset for r in batch], [r.key for r in batch], [r.value for r in batch]
