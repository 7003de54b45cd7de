"""The offsets at which a group begins, found out before its model is asked, committed when it has answered.

They are committed before anyone joins the group, so that it begins there once: whoever joins, leaves or is
killed later finds an offset for every partition. A start that fails before leaves the group as it was, the
backlog that it was to ask about included.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import (
    CommitFailedError,
    IllegalGenerationError,
    KafkaError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
from kafka.structs import OffsetAndMetadata

from onibus.consumers.annotator.spent_mark import spent_of
from onibus.infra.errors import OnibusError
from onibus.infra.kafka import clients
from onibus.infra.settings import Settings

_COMMITTED_SECONDS = 15.0
"""Longer than a transaction with offsets may stay open, which committed offsets are not known before."""
_AT_WORK = (CommitFailedError, IllegalGenerationError, RebalanceInProgressError, UnknownMemberIdError)
"""What the broker answers to someone who commits offsets from outside a group that has members."""
_TRIES = 3


@dataclass(frozen=True, slots=True)
class GroupOffsets:
    """Where a group begins; not committed yet. Can be sent to another process.

    Attributes:
        group: consumer group, full name.
        ends: where it begins in partitions in which it has no offset.
        backlog: where the backlog begins that it is to ask about.
    """

    group: str
    ends: Mapping[TopicPartition, int] = field(default_factory=dict)
    backlog: Mapping[TopicPartition, int] = field(default_factory=dict)

    def commit(self, settings: Settings) -> None:
        """Commit them, as far as the group has no offset there by now or one after its backlog.

        Raises:
            OnibusError: the group is at work, so that it cannot be set back.
            KafkaError: the cluster does not answer.
        """
        starts = {**self.ends, **self.backlog}
        for attempt in range(_TRIES if starts else 0):
            reader = clients.consumer(settings, group_id=self.group)
            try:
                reader.assign(list(starts))
                offsets = {}
                for tp, offset in starts.items():
                    found = committed(reader, tp)
                    if found is None or (tp in self.backlog and found.offset > offset):
                        offsets[tp] = OffsetAndMetadata(offset, spent_of(found), -1)
                if offsets:
                    reader.commit(offsets)
                return
            except _AT_WORK as error:
                if attempt == _TRIES - 1:
                    raise OnibusError(
                        f"group {self.group} is at work, so it cannot go back to its backlog; stop its "
                        "annotators first, or leave --backlog out"
                    ) from error
                time.sleep(0.5)
            finally:
                reader.close()


def committed(reader: KafkaConsumer, tp: TopicPartition) -> OffsetAndMetadata | None:
    """What the reader's group has committed in a partition; None if nothing.

    Raises:
        KafkaError: the cluster does not answer.
    """
    deadline = time.monotonic() + _COMMITTED_SECONDS
    while True:
        try:
            return reader.committed(tp, metadata=True, timeout_ms=1_000)
        except KafkaError as error:
            if not error.retriable or time.monotonic() > deadline:
                raise
