"""kafka-python's consumer with what version 3.0.12 lacks.

A partition that is resumed is read on, a member that was thrown out of its group claims nothing there, and
a position that is no longer on the log is reported, as are partitions that were added to a topic.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.structs import OffsetAndMetadata

from onibus.infra.observability import metrics

_log = logging.getLogger(__name__)

LOOK_AT_PARTITIONS_SECONDS = 10.0
"""How often a consumer looks whether its topics have more partitions, as far as its metadata tell."""

_NO_GENERATION = -1


class MendedConsumer(KafkaConsumer):  # type: ignore[misc]  # kafka-python is not typed
    """Reports lost positions, and takes parked records of a resumed partition up again.

    A position is lost when the log does not reach it any more (it was truncated, restored or created anew),
    or begins after it (retention deletes faster than this consumer reads). kafka-python says nothing then.
    Here reading goes on from the beginning, always. See :meth:`take_lost`.

    Records may stay parked in kafka-python for ever.

    Its fetcher parks what it has unpacked of a paused partition, and fetches nothing of a partition with
    parked records. It takes them up when no others are being given out, of which ``None`` is its sign; but
    what was given out to its end keeps that place until another fetch takes it. If the partition with parked
    records is the only one that anything comes for, that is never.
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

    def take_lost(self) -> set[TopicPartition]:
        """The partitions whose position was lost since the last call; they are read from an earlier one."""
        lost, self._lost = self._lost, set()
        return lost

    def _request_offset_reset(self, partition: TopicPartition, strategy: Any = None) -> None:
        if strategy is None:  # not one that a caller asked for
            self._report_lost(partition, "the beginning")
        self._reset_offset(partition, strategy)

    def _seek(self, partition: TopicPartition, offset: Any) -> None:
        # From the fetcher, to where it thinks that the logs part; callers seek to plain numbers. Of a topic
        # that was created anew that is the end, and everything before would be skipped.
        if isinstance(offset, OffsetAndMetadata) and self._report_lost(partition, "the beginning"):
            self._reset_offset(partition)
        else:
            self._seek_offset(partition, offset)

    def _report_lost(self, partition: TopicPartition, go_on_from: str) -> bool:
        """Whether there was a position, which is lost now."""
        state = self._subscription.assignment.get(partition)
        if state is None or state.position is None:
            return False
        report_lost(partition, state.position.offset, go_on_from)
        self._lost.add(partition)
        return True

    def poll(self, *arguments: Any, **named: Any) -> Any:
        """As KafkaConsumer's."""
        if not self._fetcher._next_partition_records:  # given out to its end, or None
            self._fetcher._next_partition_records = None
        if time.monotonic() > self._look_at_partitions_at:
            self._look_at_partitions_at = time.monotonic() + LOOK_AT_PARTITIONS_SECONDS
            self._report_added_partitions()
        return super().poll(*arguments, **named)

    def _report_added_partitions(self) -> None:
        for topic in {partition.topic for partition in self._subscription.assigned_partitions()}:
            count = len(self._cluster.partitions_for_topic(topic) or ())
            before = self._partition_counts.setdefault(topic, count)
            if count > before:
                self._partition_counts[topic] = count
                _log.warning(
                    "%s has %d partitions now, it had %d before: the added ones stay unused; leave the "
                    "setting partitions as it is, or captions with labels are asked about and paid for again",
                    topic, count, before,
                )  # fmt: skip


class MendedAssignor(CooperativeStickyAssignor):  # type: ignore[misc]  # kafka-python is not typed
    """Says that a member owns what it owns; kafka-python's says what it was last given.

    The two differ when the group has thrown the member out. Its leader then withholds from the others what
    this member seems to own and is to hand over; but this member has nothing to hand over, so it does not
    join again, and nobody ever gets these partitions. Who learns only from the answer to its JoinGroup that
    it was thrown out joins again at once, with partitions in hand that are others' by now: it claims none.
    """

    consumer: KafkaConsumer | None = None
    """Whose partitions are claimed; set before it subscribes."""

    def metadata(self, topics: Iterable[str]) -> Any:
        """As CooperativeStickyAssignor's."""
        assert self.consumer is not None
        is_member = self.consumer.group_metadata().generation_id != _NO_GENERATION
        self.member_assignment = sorted(self.consumer.assignment()) if is_member else []
        return super().metadata(topics)


def report_lost(partition: TopicPartition, position: int, go_on_from: str) -> None:
    """Log and count that a remembered position is no longer on the log."""
    metrics.POSITIONS_LOST.labels(topic=partition.topic).inc()
    _log.warning(
        "offset %d of %s, partition %d, is not on the log any more (was it truncated, restored, created "
        "anew, or cut by retention?): going on from %s",
        position, partition.topic, partition.partition, go_on_from,
    )  # fmt: skip
