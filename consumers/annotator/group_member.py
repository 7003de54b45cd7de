"""A member of the annotators' consumer group, and how a partition gets from "assigned" to "worked on".

A partition is worked on only once (1) its committed offset is known and (2) every label below the high
watermark of ``labels``, as it was *after* (1), is in the table. An owner before us put its labels on the log
before the broker looked whether it was still of the group. So each of its labels either lies below that
watermark, or will never be committed. Reading goes by positions under read_committed, and these do not get
past a transaction that is still open.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from kafka import KafkaConsumer, TopicPartition
from kafka.admin import OffsetSpec
from kafka.consumer.fetcher import ConsumerRecord
from kafka.consumer.subscription_state import ConsumerRebalanceListener
from kafka.errors import KafkaError
from kafka.structs import ConsumerGroupMetadata, MemberState, OffsetAndMetadata

from onibus.consumers.annotator.partition_readers import SENT_AGAIN, LabelFeed
from onibus.consumers.labels.table import LabelTable
from onibus.infra.kafka import clients
from onibus.infra.kafka.assignor import MendedAssignor
from onibus.infra.kafka.lost_positions import report_lost
from onibus.infra.kafka.same_log_check import MarkCheck
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.settings import Settings
from onibus.schemas.codec import Codec

_log = logging.getLogger(__name__)

_RECORDS_PER_POLL = 2_000
_MAX_POLL_INTERVAL_MS = 60_000
_LABELS_EVERY_SECONDS = 0.25
"""How often labels that others wrote (people, for example) are looked at."""
_CATCH_UP_SECONDS = 12.0
"""Longer than a transaction of another's may stay open."""
_LONGEST_REBALANCE_SECONDS = 20.0
_POLL_IN_REBALANCE_MS = 250
_POLL_IN_LONG_REBALANCE_MS = 2_000
_CLOSE_MS = 1_000


@dataclass(slots=True)
class _Restoring:
    """A partition on its way to be worked on; the fields fill in this order."""

    position: int | None = None
    end: int = 0
    labels_end: int | None = None
    table: LabelTable | None = None


class GroupMember:
    """Reads captions as a member of the group; one thread uses it.

    Args:
        group: consumer group, full name.
        session_timeout_ms: after how long without a sign of life others take over.
        begin: called when a partition may be worked on, with its committed offset, its end and its labels,
            which go on being followed; returns the offset to read from.
        end: called when a partition that was begun is lost.
        finish: called before ``end`` with partitions that are to go to others, while these wait for us and
            what is written for them still counts. In another thread, while :meth:`poll` waits; no sign of
            life is given meanwhile, so it must not take longer than half the session time-out.
        static_name: a name unique in the group that a restarted member has again, for static membership.
        comparing: ids of the specs that compare two: their comparisons are counted in the labels.
    """

    def __init__(
        self,
        settings: Settings,
        codec: Codec,
        group: str,
        session_timeout_ms: int,
        begin: Callable[[int, int, int, LabelTable], int],
        end: Callable[[int], None],
        finish: Callable[[Collection[int]], None] = lambda _: None,
        static_name: str | None = None,
        comparing: Collection[bytes] = (),
    ) -> None:
        self._settings, self._group, self._session_timeout_ms = settings, group, session_timeout_ms
        self._begin, self._end, self._finish, self._static_name = begin, end, finish, static_name
        self._names = TopicNames(settings.topic_prefix)
        self._begun: set[int] = set()
        self._restoring: dict[int, _Restoring] = {}
        self._ahead: dict[int, int] = {}
        self._labels_due = 0.0
        self._member_id = ""
        self._admin = clients.admin(settings)
        self._feed = LabelFeed(settings, codec, comparing)
        self._mark_check = MarkCheck(settings)
        self._consumer, self._ownership = self._join()
        self._stable_at = time.monotonic()

    @property
    def partitions(self) -> list[int]:
        """The partitions that are worked on, ascending."""
        return sorted(self._begun)

    @property
    def is_restoring(self) -> bool:
        """Whether there are partitions that are ours but not worked on yet."""
        return bool(self._restoring)

    @property
    def is_behind(self) -> bool:
        """Whether of some partition the captions that stood there when it was begun are not all read."""
        for partition, end in list(self._ahead.items()):
            tp = TopicPartition(self._names.captions, partition)
            if (self._consumer.position(tp, timeout_ms=100) or 0) >= end:
                del self._ahead[partition]
        return bool(self._ahead)

    def stable_metadata(self) -> ConsumerGroupMetadata | None:
        """Who we are to the group now; None while it is being rebalanced, when nothing may be written.

        Between our JoinGroup and the assignment it brings, a partition may already be another's: leaders
        go by what members claim to own, and a member that was thrown out claims too much. A metadata
        snapshot of that time would carry the new generation, and the broker would let us write.
        """
        metadata = self._consumer.group_metadata()
        return metadata if metadata.state == MemberState.STABLE else None

    def poll(self, timeout_ms: int) -> dict[int, list[ConsumerRecord]]:
        """Records by partition, of partitions that are worked on. Begins and ends partitions on the way.

        Raises:
            KafkaError: something that does not pass by itself, or not at once.
            OnibusError: a rebalance did not end, and the cluster cannot be reached to join anew.
        """
        if self.stable_metadata() is None:
            self._leave_if_stuck()
            timeout_ms = self._patience_in_rebalance_ms()
        else:
            self._stable_at = time.monotonic()
            timeout_ms = 0 if self._restoring else timeout_ms
        polled = self._consumer.poll(timeout_ms=timeout_ms)
        if self._consumer.take_lost() | self._feed.take_lost():
            self.restore_again()
        self._follow_ownership()
        self._follow_membership()
        self._restore()
        self._follow_labels()
        records = {tp.partition: batch for tp, batch in polled.items() if tp.partition in self._begun}
        for partition, batch in records.items():
            if any(name == SENT_AGAIN for record in batch for name, _ in record.headers):
                self._feed.catch_up(partition, self._high_watermark(partition), _CATCH_UP_SECONDS)
        return records

    def take_unreadable_labels(self) -> list[ConsumerRecord]:
        """Unreadable records of ``labels`` in partitions that are worked on, since the last call.

        Each owner of a partition meets those that stand there already once more.
        """
        return self._feed.take_unreadable(self._begun)

    def restore_again(self) -> None:
        """End every partition, and begin it again from what the log says."""
        self._consumer.pause(*self._consumer.assignment())
        for partition in [*self._begun, *self._restoring]:
            self._give_up(partition)
            self._restoring[partition] = _Restoring()

    def close(self) -> None:
        """Leave the group and close the connections."""
        self._begun.clear()
        for part in (self._consumer, self._feed, self._mark_check, self._admin):
            with contextlib.suppress(KafkaError):  # the broker may be away; the group will notice by itself
                part.close(**({"timeout_ms": _CLOSE_MS} if part is self._consumer else {}))

    # --- membership -----------------------------------------------------------------------------------

    def _join(self) -> tuple[KafkaConsumer, _Ownership]:
        assignor = MendedAssignor()
        assignor.consumer = consumer = clients.consumer(
            self._settings,
            group_id=self._group,
            group_instance_id=self._static_name,
            partition_assignment_strategy=[assignor],
            max_poll_records=_RECORDS_PER_POLL,
            max_poll_interval_ms=_MAX_POLL_INTERVAL_MS,
            session_timeout_ms=self._session_timeout_ms,
            heartbeat_interval_ms=self._session_timeout_ms // 4,
        )
        ownership = _Ownership(consumer, self._finish_before_they_go)
        consumer.subscribe([self._names.captions], listener=ownership)
        # Fetches the cluster's metadata now: a leader that learns of the topic only after its first join
        # joins at once again.
        consumer.topics()
        return consumer, ownership

    def _leave_if_stuck(self) -> None:
        """Become another member if a rebalance does not end, whatever holds it up.

        The one way that is known, a rebalance that kafka-python forgets, is closed: see MendedConsumer.
        """
        heartbeats = self._session_timeout_ms / 1000 / 2  # two: others learn of it by theirs
        if time.monotonic() < self._stable_at + _LONGEST_REBALANCE_SECONDS + heartbeats:
            return
        _log.warning("no end of the rebalance of group %s; joining anew", self._group)
        old, (self._consumer, self._ownership) = self._consumer, self._join()
        self._stable_at = time.monotonic()
        for partition in [*self._begun, *self._restoring]:
            self._give_up(partition)
        with contextlib.suppress(KafkaError):  # it is being thrown away
            old.close(timeout_ms=_CLOSE_MS)

    def _patience_in_rebalance_ms(self) -> int:
        """Long enough for a whole join: one that ends between two polls is begun again by the next."""
        is_long = time.monotonic() > self._stable_at + 8 * _POLL_IN_REBALANCE_MS / 1000
        return _POLL_IN_LONG_REBALANCE_MS if is_long else _POLL_IN_REBALANCE_MS

    def _follow_ownership(self) -> None:
        for given, partition in self._ownership.events:
            if partition >= self._settings.partitions:
                continue  # an operator added it; nothing is published there, and it stays paused
            if given:
                self._restoring[partition] = _Restoring()
            else:
                self._give_up(partition)
        self._ownership.events.clear()

    def _follow_membership(self) -> None:
        """Own nothing that we owned as another member, before the group threw that one out.

        kafka-python tells of such a loss, but not when it learns of it from the answer to a JoinGroup.
        """
        metadata = self.stable_metadata()
        if metadata is None:
            return
        if self._member_id not in ("", metadata.member_id):
            self.restore_again()
        self._member_id = metadata.member_id

    def _finish_before_they_go(self, partitions: Collection[int]) -> None:
        if going := self._begun.intersection(partitions):
            self._finish(going)

    def _give_up(self, partition: int) -> None:
        self._feed.remove(partition)
        self._restoring.pop(partition, None)
        self._ahead.pop(partition, None)
        if partition in self._begun:
            self._begun.remove(partition)
            self._end(partition)

    # --- restoring ------------------------------------------------------------------------------------

    def _restore(self) -> None:
        self._find_positions()
        for partition, state in self._restoring.items():
            if state.position is not None and state.labels_end is None:
                state.labels_end = self._high_watermark(partition)
                state.table = self._feed.add(partition)
        if self._restoring:
            self._feed.poll(timeout_ms=50)
        for partition, state in list(self._restoring.items()):
            if state.labels_end is None or not self._feed.has_passed(partition, state.labels_end):
                continue
            assert state.position is not None
            assert state.table is not None
            del self._restoring[partition]
            self._begun.add(partition)
            tp = TopicPartition(self._names.captions, partition)
            self._consumer.seek(tp, self._begin(partition, state.position, state.end, state.table))
            self._consumer.resume(tp)
            self._ahead[partition] = state.end

    def _find_positions(self) -> None:
        """Where to go on in the partitions of which that is not known yet, and their ends."""
        committed: dict[TopicPartition, OffsetAndMetadata] = {}
        for partition in [p for p, state in self._restoring.items() if state.position is None]:
            tp = TopicPartition(self._names.captions, partition)
            try:
                # While an earlier owner's transaction with offsets is open, this times out (KIP-447).
                at = self._consumer.committed(tp, metadata=True, timeout_ms=500)
                if at is None:
                    self._begin_at(partition, self._first_of(tp))
                else:
                    committed[tp] = at
            except KafkaError as error:
                if not error.retriable:
                    raise
                break  # the others can wait as well: nothing here may take long
        if not committed:
            return
        ends = {tp: self._end_of(tp) for tp in committed}
        for tp, is_on_log in self._mark_check.on_log(committed, ends).items():
            offset, first = int(committed[tp].offset), self._first_of(tp)
            if not is_on_log or offset < first:
                report_lost(tp, offset, f"offset {first}, its beginning; what has a label is passed over")
                offset = first
            self._begin_at(tp.partition, offset)

    def _begin_at(self, partition: int, position: int) -> None:
        state = self._restoring[partition]
        state.position = position
        # Before that of the labels: who has a caption judged again withdraws its label first.
        state.end = self._end_of(TopicPartition(self._names.captions, partition))

    def _first_of(self, tp: TopicPartition) -> int:
        return int(self._consumer.beginning_offsets([tp], timeout_ms=500)[tp])

    def _high_watermark(self, partition: int) -> int:
        """The end of a partition of ``labels``, uncommitted records included."""
        return self._end_of(TopicPartition(self._names.labels, partition))

    def _end_of(self, tp: TopicPartition) -> int:
        return int(self._admin.list_partition_offsets({tp: OffsetSpec.LATEST}, timeout_ms=5_000)[tp].offset)

    def _follow_labels(self) -> None:
        if time.monotonic() > self._labels_due:
            self._feed.poll(timeout_ms=0)
            self._labels_due = time.monotonic() + _LABELS_EVERY_SECONDS


class _Ownership(ConsumerRebalanceListener):  # type: ignore[misc]
    """Notes what the group gave and took, in order. Runs in the consumer's thread while we wait in poll.

    A partition is taken in an assignment, and given to another only in the next one, for which the group
    waits until we join again, at the end of that poll. So there is time to ``finish``. What is lost, to a
    group that has thrown us out, is another's already.
    """

    def __init__(self, consumer: KafkaConsumer, finish: Callable[[Collection[int]], None]) -> None:
        self._consumer, self._finish = consumer, finish
        self.events: list[tuple[bool, int]] = []

    def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self._consumer.pause(*assigned)  # until restored
        self.events += [(True, tp.partition) for tp in sorted(assigned)]

    def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        self._finish([tp.partition for tp in revoked])
        self.on_partitions_lost(revoked)

    def on_partitions_lost(self, lost: set[TopicPartition]) -> None:
        self.events += [(False, tp.partition) for tp in sorted(lost)]
