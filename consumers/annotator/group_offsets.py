"""Where on the log a group begins: found out before its model is asked, committed when it has answered.

A caption that is still met is published again within a minute, so a new group misses nothing that matters
when it begins at the end of the log. What stood there before is its backlog; it is fetched only when asked
for. A group that has offsets goes on from them, whatever is asked, unless captions of the backlog before them
lack a label.

They are committed before anyone joins the group, so that it begins there once: whoever joins, leaves or is
killed later finds an offset for every partition. A start that fails before leaves the group as it was, the
backlog that it was to ask about included.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
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

from onibus.consumers.annotator.backlog import Backlog, BacklogReader, Owed
from onibus.consumers.annotator.spent_mark import spent_of
from onibus.infra.errors import OnibusError
from onibus.infra.kafka import clients
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.settings import Settings

_COMMITTED_SECONDS = 15.0
"""Longer than a transaction with offsets may stay open, which committed offsets are not known before."""
_AT_WORK = (CommitFailedError, IllegalGenerationError, RebalanceInProgressError, UnknownMemberIdError)
"""What the broker answers to someone who commits offsets from outside a group that has members."""
_TRIES = 3


_log = logging.getLogger(__name__)


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
            try:
                with clients.consumer(settings, group_id=self.group) as reader:
                    reader.assign(list(starts))
                    offsets = {}
                    for tp, offset in starts.items():
                        found = _committed(reader, tp)
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


def find_offsets(
    settings: Settings,
    group: str,
    backlog: Backlog | None,
    backlog_reader: BacklogReader,
    approve: Callable[[Owed], None],
) -> GroupOffsets:
    """Where a group begins that no one joins meanwhile.

    Args:
        group: consumer group, full name.
        approve: called with what the backlog takes, if that is anything; raises if it is too much.

    Raises:
        OnibusError: ``approve`` did.
        KafkaError: the cluster does not answer.
    """
    with clients.consumer(settings, group_id=group) as reader:
        topic = TopicNames(settings.topic_prefix).captions
        partitions = clients.partitions_of(reader, topic)[: settings.partitions]
        reader.assign(partitions)
        found = {tp: _committed(reader, tp) for tp in partitions}
        at = {tp: int(one.offset) for tp, one in found.items() if one is not None}
        firsts, log_ends = reader.beginning_offsets(partitions), reader.end_offsets(partitions)
    ends = {tp: int(log_ends[tp]) for tp in partitions if tp not in at}
    if backlog is None:
        before = sum(log_ends[tp] - firsts[tp] for tp in ends)
        since = sum(max(0, log_ends[tp] - max(offset, firsts[tp])) for tp, offset in at.items())
        _say_where(group, before, since)
        return GroupOffsets(group, ends)
    back, owed = backlog_reader.read(backlog, {**at, **ends})
    if owed.captions:
        approve(owed)
    else:
        _log.info("nothing of the backlog (%s) lacks a label", backlog.text)
    return GroupOffsets(group, ends, back)


def _say_where(group: str, before: int, since: int) -> None:
    if before:
        _log.info(
            "group %s is new: it begins at what is seen from now on; %d caption records are on the log "
            "already, --backlog asks about these, too",
            group,
            before,
        )
    if since:
        _log.info(
            "group %s goes on where it stopped: %d caption records came since, of which it asks about those "
            "without a label",
            group,
            since,
        )


def _committed(reader: KafkaConsumer, tp: TopicPartition) -> OffsetAndMetadata | None:
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
