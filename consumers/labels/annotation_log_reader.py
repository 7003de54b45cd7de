"""Reads the annotation log from its beginning up to given offsets; if part of it is missing, it fails."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Container, Iterator, Mapping
from typing import NamedTuple, Protocol

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import KafkaError

from onibus.infra.errors import OnibusError
from onibus.infra.kafka import clients
from onibus.infra.kafka.codecs import codec_for, decoded
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.settings import Settings
from onibus.schemas.ids import SPEC_ID_BYTES
from onibus.schemas.records import Annotation

_RECORDS_PER_POLL = 5_000
_POLL_MS = 500
_PATIENCE_MS = 5_000
ENDS_MS = 30_000
"""How long a busy cluster may take to say where the log ends."""
_STALL_SECONDS = 60.0


class LoggedAnnotation(NamedTuple):
    """A record of the annotation log.

    Attributes:
        partition: of the log.
        offset: in its partition.
        written_at: the record's time, milliseconds since the epoch, UTC.
        annotation: None if it is not wanted or cannot be decoded.
    """

    partition: int
    offset: int
    written_at: int
    annotation: Annotation | None


class AnnotationSource(Protocol):
    """Where annotations are read from: a cluster, or a file."""

    @property
    def ends(self) -> dict[int, int]:
        """By partition the first offset that does not exist yet."""

    def offsets_at(self, written_at: int) -> dict[int, int]:
        """By partition the first record of that time or later (milliseconds since the epoch), or the end."""

    def read(self, until: Mapping[int, int]) -> Iterator[LoggedAnnotation]:
        """The records below ``until``, in the order of each partition.

        Raises:
            OnibusError: some of them are missing.
        """


def of_specs(spec_ids: Container[bytes]) -> Callable[[bytes], bool]:
    """Selects, by keys, the annotations of these specifications."""
    return lambda key: key[:SPEC_ID_BYTES] in spec_ids


def offsets_text(offsets: Mapping[int, int]) -> str:
    """Offsets in the form that ``--as-of`` accepts."""
    return ",".join(f"{number}:{offset}" for number, offset in sorted(offsets.items()))


class AnnotationReader:
    """Reads all partitions from offset 0, without a group, read_committed; :meth:`read` continues.

    Records of a partition come in order; the order between partitions is arbitrary. Memory is bounded,
    however long the log: one response of the broker (at most 50 MiB), the batches of it that are being
    unpacked, and polls of 5,000 records beyond the requested offsets (``onibus bench replay``).

    Args:
        wanted: whether a record with this key is decoded; None: all are.

    Raises:
        OnibusError: the cluster cannot be reached, has no such topic, or a partition does not begin at 0.
    """

    def __init__(self, settings: Settings, wanted: Callable[[bytes], bool] | None = None) -> None:
        self._codec, self._wanted = codec_for(settings), wanted
        names = TopicNames(settings.topic_prefix)
        self._topic = names.annotations
        self._consumer: KafkaConsumer = clients.consumer(settings, max_poll_records=_RECORDS_PER_POLL)
        try:
            self._partitions = self._all_partitions(names.labels)
            self._ends: dict[TopicPartition, int] = self._consumer.end_offsets(self._partitions)
            self._refuse_cut_log()
        except BaseException:
            self.close()
            raise
        self._consumer.assign(self._partitions)
        self._consumer.seek_to_beginning(*self._partitions)
        self._beyond: dict[TopicPartition, deque[ConsumerRecord]] = {p: deque() for p in self._partitions}

    def __enter__(self) -> AnnotationReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def ends(self) -> dict[int, int]:
        """By partition the end of the log when the reader was created, or at the last :meth:`latest`."""
        return {p.partition: end for p, end in self._ends.items()}

    def latest(self) -> dict[int, int]:
        """By partition the current end of the log; updates :attr:`ends`.

        Raises:
            OnibusError: it ends before what was read already.
            KafkaError: the cluster does not answer.
        """
        ends: dict[TopicPartition, int] = self._consumer.end_offsets(self._partitions, timeout_ms=ENDS_MS)
        if cut := {p for p, end in ends.items() if end < self._position(p)}:
            raise self._cut(cut)
        self._ends = ends
        return self.ends

    def offsets_at(self, written_at: int) -> dict[int, int]:
        """By partition the first record of that time or later (milliseconds since the epoch), or the end."""
        found = self._consumer.offsets_for_times(dict.fromkeys(self._partitions, written_at))
        return {p.partition: found[p].offset if found.get(p) else self._ends[p] for p in self._partitions}

    def read(self, until: Mapping[int, int]) -> Iterator[LoggedAnnotation]:
        """The records from where the last call ended up to ``until``, by partition the first offset not read.

        Partitions that are not named are not read.

        Raises:
            OnibusError: the log does not reach that far, or nothing arrived for a minute.
        """
        self._refuse_beyond_the_end(until)
        targets = {p: until.get(p.partition, 0) for p in self._partitions}
        moved_at, behind = time.monotonic(), -1
        for partition in self._partitions:
            yield from self._taken(partition, targets[partition])
        while short := [p for p in self._partitions if not self._has_reached(p, targets[p])]:
            self._consumer.pause(*(p for p in self._partitions if p not in short))
            self._consumer.resume(*short)
            for partition, records in self._poll().items():
                if not self._beyond[partition] and records[-1].offset < targets[partition]:
                    yield from map(self._decoded, records)
                    continue
                self._beyond[partition].extend(records)
                yield from self._taken(partition, targets[partition])
            if behind != (behind := sum(targets[p] - self._position(p) for p in short)):
                moved_at = time.monotonic()
            elif time.monotonic() - moved_at > _STALL_SECONDS:
                raise self._stalled(short, targets)

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close(timeout_ms=1_000)

    def _poll(self) -> dict[TopicPartition, list[ConsumerRecord]]:
        try:
            polled: dict[TopicPartition, list[ConsumerRecord]] = self._consumer.poll(timeout_ms=_POLL_MS)
        except KafkaError as error:
            raise OnibusError(f"reading {self._topic}: {error}; check the cluster and its ACLs") from error
        if lost := self._consumer.take_lost():
            raise self._cut(lost)
        return polled

    def _cut(self, lost: set[TopicPartition]) -> OnibusError:
        numbers = ", ".join(str(tp.partition) for tp in sorted(lost))
        return OnibusError(
            f"{self._topic}, partition {numbers}, was cut or restored while it was read; start again"
        )

    def _taken(self, partition: TopicPartition, target: int) -> Iterator[LoggedAnnotation]:
        records = self._beyond[partition]
        while records and records[0].offset < target:
            yield self._decoded(records.popleft())

    def _has_reached(self, partition: TopicPartition, target: int) -> bool:
        if self._beyond[partition]:
            return bool(self._beyond[partition][0].offset >= target)
        return self._position(partition) >= target

    def _position(self, partition: TopicPartition) -> int:
        return int(self._consumer.position(partition, timeout_ms=_PATIENCE_MS) or 0)

    def _decoded(self, record: ConsumerRecord) -> LoggedAnnotation:
        wanted = self._wanted is None or self._wanted(record.key or b"")
        annotation = decoded(self._codec, Annotation, record) if wanted else None
        return LoggedAnnotation(record.partition, record.offset, record.timestamp, annotation)

    def _all_partitions(self, labels: str) -> list[TopicPartition]:
        partitions = clients.partitions_of(self._consumer, self._topic)
        further = clients.partitions_of(self._consumer, labels)[len(partitions) :]
        ends = self._consumer.end_offsets(further) if further else {}
        if missing := [p.partition for p in further if ends[p]]:
            raise OnibusError(
                f"{self._topic} has no partition {', '.join(map(str, missing))}, unlike {labels}: its "
                "offsets from 0 on are missing; add the partitions, or use the cluster that has them"
            )
        return partitions

    def _refuse_cut_log(self) -> None:
        starts: dict[TopicPartition, int] = self._consumer.beginning_offsets(self._partitions)
        cut = [f"partition {p.partition}: offsets 0 to {start - 1}" for p, start in starts.items() if start]
        if cut:
            raise OnibusError(
                f"the beginning of {self._topic} is gone ({'; '.join(sorted(cut))}), cut by retention "
                "or deleted; set its retention.ms to -1, and import a file that was "
                "exported before: onibus labels import"
            )

    def _refuse_beyond_the_end(self, until: Mapping[int, int]) -> None:
        for number, offset in sorted(until.items()):
            partition = TopicPartition(self._topic, number)
            if offset and partition not in self._ends:
                raise OnibusError(
                    f"{self._topic} has no partition {number}: its offsets 0 to {offset - 1} are missing; "
                    "use the cluster that the offsets come from"
                )
            if offset > self._ends.get(partition, 0):
                raise OnibusError(
                    f"{self._topic}, partition {number} ends at {self._ends[partition]}: offsets "
                    f"{self._ends[partition]} to {offset - 1} are missing (truncated, or restored?); use the "
                    f"cluster that they come from, or read what is left: {offsets_text(self._kept(until))}"
                )

    def _kept(self, until: Mapping[int, int]) -> dict[int, int]:
        """These offsets, limited to what exists."""
        return {number: min(end, until.get(number, 0)) for number, end in self.ends.items()}

    def _stalled(self, short: list[TopicPartition], targets: Mapping[TopicPartition, int]) -> OnibusError:
        missing = "; ".join(
            f"partition {p.partition}: offsets {self._position(p)} to {targets[p] - 1}" for p in short
        )
        return OnibusError(
            f"{self._topic} could not be read to its end: no progress for {_STALL_SECONDS:g} s ({missing}); "
            "check that every broker is up and no transaction is still open"
        )
