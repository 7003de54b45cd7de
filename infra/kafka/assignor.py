"""Which partitions a member of a consumer group claims: none after the group has removed it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kafka import KafkaConsumer
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor

_NO_GENERATION = -1


class MendedAssignor(CooperativeStickyAssignor):  # type: ignore[misc]  # kafka-python is not typed
    """Reports the partitions that a member owns; kafka-python reports those it was last assigned.

    The two differ when the group has removed the member. Its leader then withholds from the others what this
    member seems to own and should revoke; but the member has nothing to revoke, so it does not rejoin, and
    no one ever gets these partitions. A member that learns only from the response to JoinGroup that it was
    removed rejoins at once, still holding partitions that belong to others by now: it claims none.
    """

    consumer: KafkaConsumer | None = None
    """Whose partitions are claimed; set before it subscribes."""

    def metadata(self, topics: Iterable[str]) -> Any:
        """See CooperativeStickyAssignor."""
        assert self.consumer is not None
        is_member = self.consumer.group_metadata().generation_id != _NO_GENERATION
        self.member_assignment = sorted(self.consumer.assignment()) if is_member else []
        return super().metadata(topics)
