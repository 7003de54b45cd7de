"""kafka-python's consumer with what version 3.0.12 lacks.

A partition that is resumed is read on, and a member that was thrown out of its group claims nothing there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kafka import KafkaConsumer
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor

_NO_GENERATION = -1


class MendedConsumer(KafkaConsumer):  # type: ignore[misc]  # kafka-python is not typed
    """Takes parked records of a resumed partition up again, which kafka-python may leave parked for ever.

    Its fetcher parks what it has unpacked of a paused partition, and fetches nothing of a partition with
    parked records. It takes them up when no others are being given out, of which ``None`` is its sign; but
    what was given out to its end keeps that place until another fetch takes it. If the partition with parked
    records is the only one that anything comes for, that is never.
    """

    def poll(self, *arguments: Any, **named: Any) -> Any:
        """As KafkaConsumer's."""
        if not self._fetcher._next_partition_records:  # given out to its end, or None
            self._fetcher._next_partition_records = None
        return super().poll(*arguments, **named)


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
