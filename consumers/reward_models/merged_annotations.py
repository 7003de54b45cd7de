"""One specification's annotations of all partitions as one sequence, the same however they arrive."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord

from onibus.infra.errors import OnibusError
from onibus.infra.kafka import clients
from onibus.infra.kafka.codecs import decoded
from onibus.infra.kafka.lost_positions import report_lost
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.settings import Settings
from onibus.schemas.codec import Codec
from onibus.schemas.ids import SPEC_ID_BYTES
from onibus.schemas.records import Annotation

_RECORDS_PER_POLL = 500
_MOST_WAITING = 1_000
"""Records of a partition that wait in memory; it is read on when they are fewer."""


class AnnotationLog:
    """Group-less read_committed reader that merges partitions by time of writing.

    A record is given out when every partition has its next one at hand or was read to its end. So of a log
    that does not grow, the sequence is a function of the log. Of one that grows it depends on what had
    arrived, too; versions say where they ended, by offsets.

    Args:
        spec_id: records of other specifications only move the offsets.
        restored: by partition an offset; what is below comes before anything that is not. Where the topic
            ends below, that is reported, and it counts as restored up to its end: see :attr:`restored`.

    Raises:
        OnibusError: the cluster cannot be reached, or has no such topic.
    """

    def __init__(
        self,
        settings: Settings,
        codec: Codec,
        spec_id: bytes,
        restored: Mapping[int, int],
        start: Mapping[int, int] | None = None,
    ) -> None:
        self._codec, self._spec_id, self._restored = codec, spec_id, dict(restored)
        self._topic = TopicNames(settings.topic_prefix).annotations
        self._consumer: KafkaConsumer = clients.consumer(settings, max_poll_records=_RECORDS_PER_POLL)
        self._partitions = clients.partitions_of(self._consumer, self._topic)
        self._consumer.assign(self._partitions)
        for tp, first in self._consumer.beginning_offsets(self._partitions).items():
            self._consumer.seek(tp, max(first, (start or {}).get(tp.partition, 0)))
        self._waiting: dict[TopicPartition, deque[ConsumerRecord]] = {p: deque() for p in self._partitions}
        self._ends: dict[TopicPartition, int] = self._consumer.end_offsets(self._partitions)
        self._blocked = set(self._partitions)
        self._empty_since: float | None = None
        self._clamp_restored()

    @property
    def restored(self) -> dict[int, int]:
        """By partition up to where the log was read before, and is still there."""
        return dict(self._restored)

    @property
    def quiet_seconds(self) -> float:
        """For how long every :meth:`fill` found nothing, all that there was having been given out; else 0.

        What comes while no one fills, because a version is being trained, say, is not known of yet.
        """
        if self._blocked or self._empty_since is None:
            return 0.0
        return time.monotonic() - self._empty_since

    def fill(self, timeout_ms: int) -> None:
        """Read on.

        Raises:
            KafkaError: the cluster does not answer.
            OnibusError: the log does not reach as far as it was read.
        """
        if not self._blocked:
            self._ends = self._consumer.end_offsets(self._partitions)
        polled = self._consumer.poll(timeout_ms=timeout_ms)
        if lost := self._consumer.take_lost():
            numbers = ", ".join(str(tp.partition) for tp in sorted(lost))
            raise OnibusError(
                f"{self._topic}, partition {numbers}, has lost what this trainer has read: it was truncated, "
                "restored or created anew; start the trainer again: it goes on from the log's end"
            )
        for tp, records in polled.items():
            self._waiting[tp].extend(records)
        full = [p for p in self._partitions if len(self._waiting[p]) > _MOST_WAITING]
        self._consumer.pause(*full)
        self._consumer.resume(*(p for p in self._partitions if p not in full))
        self._blocked = {p for p in self._partitions if not self._waiting[p] and not self._was_read(p)}
        if any(self._waiting.values()):
            self._empty_since = None
        elif self._empty_since is None:
            self._empty_since = time.monotonic()

    def next(self) -> tuple[int, int, Annotation | None] | None:
        """Partition, offset and annotation (None: of no interest) of the next record; None: fill first.

        Raises:
            RegistryError: a schema registry is used and does not answer; the record is still the next one.
        """
        if self._blocked:
            return None
        heads = [self._order(records[0]) for records in self._waiting.values() if records]
        if not heads:
            return None
        tp = TopicPartition(self._topic, min(heads)[2])
        record = self._waiting[tp][0]
        annotation = self._decode(record)
        self._waiting[tp].popleft()
        if not self._waiting[tp] and not self._was_read(tp):
            self._blocked.add(tp)
        return record.partition, record.offset, annotation

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close(timeout_ms=1_000)

    def _order(self, record: ConsumerRecord) -> tuple[bool, int, int]:
        is_new = record.offset >= self._restored.get(record.partition, 0)
        return is_new, record.timestamp, record.partition

    def _was_read(self, tp: TopicPartition) -> bool:
        position = self._consumer.position(tp, timeout_ms=1_000)
        return position is not None and position >= self._ends[tp]

    def _decode(self, record: ConsumerRecord) -> Annotation | None:
        if record.key is None or record.key[:SPEC_ID_BYTES] != self._spec_id:
            return None
        return decoded(self._codec, Annotation, record)

    def _clamp_restored(self) -> None:
        for number, offset in self._restored.items():
            tp = TopicPartition(self._topic, number)
            if (end := self._ends.get(tp, 0)) < offset:
                report_lost(
                    tp, offset, f"its end, offset {end}; versions up to now cannot be made again by replay"
                )
                self._restored[number] = end
