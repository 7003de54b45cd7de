"""Reading a log from its beginning to its end: the loop behind everything that loads a topic."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence

from kafka import KafkaConsumer, TopicPartition

from onibus.infra.errors import OnibusError

STALL_SECONDS = 60.0
"""Reading is given up after this long without progress."""
_REPORT_SECONDS = 5.0
_POSITION_MS = 1_000

_log = logging.getLogger(__name__)


def until_end(
    consumer: KafkaConsumer,
    partitions: Sequence[TopicPartition],
    stopping: threading.Event | None = None,
    stall_seconds: float = STALL_SECONDS,
    start: Mapping[TopicPartition, int] | None = None,
) -> Iterator[None]:
    """Seek to the beginning of ``partitions``, then yield before each poll of the caller, up to the end.

    The end is where the log ended at the start. It is reached when ``position >= end offset`` holds on every
    partition: positions, unlike records' offsets, advance past compacted gaps and transaction markers.
    Progress is logged every five seconds.

    Args:
        consumer: one without a group.
        stopping: ends it early.
        start: offsets to read from instead of the beginning; one beyond the log counts for nothing.

    Raises:
        OnibusError: there was no progress for ``stall_seconds``.
    """
    consumer.assign(partitions)
    consumer.seek_to_beginning(*partitions)
    starts, ends = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
    for partition, offset in (start or {}).items():
        if starts[partition] <= offset <= ends[partition]:
            consumer.seek(partition, offset)
            starts[partition] = offset
    total = behind = sum(ends[partition] - starts[partition] for partition in partitions)
    topics = ", ".join(sorted({partition.topic for partition in partitions}))
    moved_at = reported_at = time.monotonic()
    while stopping is None or not stopping.is_set():
        was_behind, behind = behind, _behind(consumer, starts, ends)
        now = time.monotonic()
        if behind == 0:
            return
        if behind < was_behind:
            moved_at = now
        elif now - moved_at > stall_seconds:
            raise OnibusError(
                f"topic {topics} could not be read to its end: no progress for {stall_seconds:g} s with "
                f"{behind:,} offsets left; check that every broker is up and no transaction is still open"
            )
        if now - reported_at > _REPORT_SECONDS:
            reported_at = now
            _log.info("reading %s: %s of %s offsets", topics, f"{total - behind:,}", f"{total:,}")
        yield


def _behind(
    consumer: KafkaConsumer, starts: dict[TopicPartition, int], ends: dict[TopicPartition, int]
) -> int:
    missing = 0
    for partition, end in ends.items():
        position = consumer.position(partition, timeout_ms=_POSITION_MS)
        missing += max(0, end - (starts[partition] if position is None else int(position)))
    return missing
