"""A consumer that reports positions which are no longer on the log, and does not stop reading.

It has what version 3.0.12 of kafka-python's consumer lacks: lost positions and partitions that were added to
a topic are reported, reading continues on a resumed partition, offsets are those of all partitions asked
about, and a rebalance that has begun comes to its end.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaTimeoutError
from kafka.structs import OffsetAndMetadata

from onibus.infra.observability import metrics

_log = logging.getLogger(__name__)

LOOK_AT_PARTITIONS_SECONDS = 10.0
"""How often a consumer checks, by its metadata, whether its topics have more partitions."""

_LEADERS_SECONDS = 5.0
"""How long a partition may be without a known leader; one of a topic that is being deleted gets none."""
_LEADERS_PAUSE_SECONDS = 0.05


class MendedConsumer(KafkaConsumer):  # type: ignore[misc]  # kafka-python is not typed
    """Reports lost positions, and returns the parked records of a resumed partition.

    A position is lost when the log no longer reaches it (it was truncated, restored or created anew), or
    begins after it (retention deletes faster than this consumer reads). kafka-python does not report that.
    Here reading always continues from the beginning. See :meth:`take_lost`.

    In kafka-python records may stay parked forever. Its fetcher parks what it has unpacked of a paused
    partition, and fetches nothing for a partition with parked records. It returns them when no other fetch
    is current, that is, ``None``; but an exhausted fetch stays current until another one replaces it. If
    nothing arrives for any partition but the one with parked records, that never happens.

    Whenever its metadata is refreshed, topics that are not assigned are forgotten. kafka-python then requests
    them again, but raises KeyError for their offsets instead of waiting for the response.

    A rebalance that a leader begins because of new metadata (more partitions, or a topic that it knew
    nothing of when it joined) is forgotten in kafka-python if the call of ``poll`` that began it runs out of
    time: the member has no partitions and sends no heartbeats any more. Here what has begun is waited for.
    """

    def __init__(self, *topics: str, **configuration: Any) -> None:
        super().__init__(*topics, **configuration)
        self._lost: set[TopicPartition] = set()
        self._partition_counts: dict[str, int] = {}
        self._look_at_partitions_at = 0.0
        self._reset_offset = self._subscription.request_offset_reset
        self._seek_offset = self._subscription.seek
        self._subscription.request_offset_reset = self._request_offset_reset
        self._subscription.seek = self._seek
        self._has_reason_to_rejoin = self._coordinator.need_rejoin
        self._coordinator.need_rejoin = self._needs_rejoin

    def take_lost(self) -> set[TopicPartition]:
        """Partitions whose position was lost since the last call; reading continues from an earlier one."""
        lost, self._lost = self._lost, set()
        return lost

    def beginning_offsets(self, partitions: Iterable[TopicPartition], timeout_ms: int | None = None) -> Any:
        """See KafkaConsumer."""
        return self._of_all(super().beginning_offsets, list(partitions), timeout_ms)

    def end_offsets(self, partitions: Iterable[TopicPartition], timeout_ms: int | None = None) -> Any:
        """See KafkaConsumer."""
        return self._of_all(super().end_offsets, list(partitions), timeout_ms)

    def _of_all(
        self, ask: Callable[..., Any], partitions: list[TopicPartition], timeout_ms: int | None
    ) -> Any:
        """Offsets of every partition, asked for until the leader of each is known."""
        deadline = time.monotonic() + _LEADERS_SECONDS
        if timeout_ms is not None:
            deadline = min(deadline, time.monotonic() + timeout_ms / 1000)
        while True:
            try:
                return ask(partitions, timeout_ms=timeout_ms)
            except KeyError as error:
                if time.monotonic() >= deadline:
                    missing = error.args[0]
                    raise KafkaTimeoutError(
                        f"no leader known of {missing.topic}, partition {missing.partition}"
                    ) from error
                time.sleep(_LEADERS_PAUSE_SECONDS)

    def _needs_rejoin(self) -> bool:
        return bool(self._coordinator.rejoining or self._has_reason_to_rejoin())

    def _request_offset_reset(self, partition: TopicPartition, strategy: Any = None) -> None:
        if strategy is None:  # not requested by a caller
            self._report_lost(partition, "the beginning")
        self._reset_offset(partition, strategy)

    def _seek(self, partition: TopicPartition, offset: Any) -> None:
        # Called by the fetcher, with the offset where it believes that the logs diverge; callers seek to
        # plain numbers. If the topic was created anew that is the end, and everything before is skipped.
        if isinstance(offset, OffsetAndMetadata) and self._report_lost(partition, "the beginning"):
            self._reset_offset(partition)
        else:
            self._seek_offset(partition, offset)

    def _report_lost(self, partition: TopicPartition, go_on_from: str) -> bool:
        """Whether there was a position, which is now lost."""
        state = self._subscription.assignment.get(partition)
        if state is None or state.position is None:
            return False
        report_lost(partition, state.position.offset, go_on_from)
        self._lost.add(partition)
        return True

    def poll(self, *arguments: Any, **named: Any) -> Any:
        """See KafkaConsumer."""
        if not self._fetcher._next_partition_records:  # exhausted, or None
            self._fetcher._next_partition_records = None
        if time.monotonic() > self._look_at_partitions_at:
            self._look_at_partitions_at = time.monotonic() + LOOK_AT_PARTITIONS_SECONDS
            self._report_added_partitions()
        return super().poll(*arguments, **named)

    def _report_added_partitions(self) -> None:
        for topic in {partition.topic for partition in self._subscription.assigned_partitions()}:
            count = len(self._cluster.partitions_for_topic(topic) or ())
            if not count:
                continue  # the topic is not in the metadata just now
            before = self._partition_counts.setdefault(topic, count)
            if count > before:
                self._partition_counts[topic] = count
                _log.warning(
                    "%s now has %d partitions instead of %d: the added ones stay unused; do not change the "
                    "setting partitions, or captions with labels will be asked about and paid for again",
                    topic, count, before,
                )  # fmt: skip


def report_lost(partition: TopicPartition, position: int, go_on_from: str) -> None:
    """Log and count that a position is no longer on the log."""
    metrics.POSITIONS_LOST.labels(topic=partition.topic).inc()
    _log.warning(
        "offset %d of %s, partition %d, is no longer on the log (was it truncated, restored, created anew, "
        "or cut by retention?): continuing from %s",
        position, partition.topic, partition.partition, go_on_from,
    )  # fmt: skip
