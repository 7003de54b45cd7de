"""The process around :class:`~consumers.annotator.Annotator`: consumer group, restoring, asking, writing.

One thread polls, decides and writes; the language model is asked in another. Nothing is polled while a
transaction is open, so the group's assignment cannot change between putting a batch together and the
broker's check of it. A partition is worked on only once (1) its committed offset is known, (2) every label
below the high watermark that was seen *after* that is in the table: labels of an owner before us are
either below it or will never be committed. Whatever fails, there is one way on: a new producer, and every
partition restored from the log.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.admin import OffsetSpec
from kafka.consumer.subscription_state import ConsumerRebalanceListener
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    KafkaError,
    ProducerFencedError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailedError,
)
from kafka.structs import MemberState

from consumers.annotator import Annotator, Batch
from consumers.asking import Asking
from consumers.label_table import LabelTable
from consumers.language_model import LanguageModel, ModelRefusedError
from consumers.partition_logs import CaptionLog, LabelFeed
from consumers.transactions import TransactionFailedError, TransactionWriter
from infra import clients, metrics
from infra.codecs import codec_for
from infra.errors import OnibusError
from infra.reachability import UnreachableError
from infra.settings import Settings
from infra.topics import TopicNames
from schemas.codec import RegistryError
from schemas.records import AnnotationSpec

_log = logging.getLogger(__name__)

_IDLE_POLL_MS = 100
_RECORDS_PER_POLL = 2_000
_CAPTIONS_PER_TRANSACTION = 1_000
_READ_BACK_OFFSETS = 5_000
_ANSWER_WAIT_SECONDS = 0.02
_OFFSETS_EVERY_SECONDS = 1.0
"""How often offsets are committed when there is nothing else to write."""
_LABELS_EVERY_SECONDS = 0.25
"""How often labels that others wrote (people, for example) are looked at."""
_RETRY_SECONDS = 1.0
_LAST_ANSWERS_SECONDS = 2.5
"""How long a stopping annotator waits for answers that are under way."""
_MOST_FENCINGS = 3
_EMPTY_HANDED_SECONDS = 5.0
"""After how long an annotator without a partition (there are more annotators) counts as ready."""
_REFUSED = (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailedError,
)


@dataclass(frozen=True, slots=True)
class Membership:
    """Who this annotator is.

    Attributes:
        group: consumer group, full name.
        name: its own name; unique in the group, for it is part of the transactional id.
        most_under_way: captions asked about at a time.
        session_timeout_ms: after how long without a sign of life others take over.
    """

    group: str
    name: str
    most_under_way: int
    session_timeout_ms: int = 10_000


@dataclass(slots=True)
class Summary:
    """What an annotator did in its life."""

    seconds: float = 0.0
    consumed: int = 0
    known: int = 0
    labels: int = 0
    dead_letters: int = 0
    transactions: int = 0
    failed_transactions: int = 0

    def line(self) -> str:
        """The summary as one line for a person."""
        return (
            f"{self.labels:,} labels from {self.consumed:,} caption records ({self.known:,} needed none) "
            f"in {self.seconds:.0f} s; {self.transactions:,} transactions, "
            f"{self.failed_transactions:,} failed; {self.dead_letters:,} dead letters"
        )


@dataclass(slots=True)
class _Restoring:
    """A partition on its way to be worked on; the fields fill in this order."""

    position: int | None = None
    labels_end: int | None = None
    table: LabelTable | None = None


class _Ownership(ConsumerRebalanceListener):  # type: ignore[misc]
    """Notes what the group gave and took, in order. Runs in the consumer's thread while we wait in poll."""

    def __init__(self, consumer: KafkaConsumer) -> None:
        self._consumer = consumer
        self.events: list[tuple[bool, TopicPartition]] = []

    def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self._consumer.pause(*assigned)  # until restored
        self.events += [(True, tp) for tp in sorted(assigned)]

    def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        self.events += [(False, tp) for tp in sorted(revoked)]

    def on_partitions_lost(self, lost: set[TopicPartition]) -> None:
        self.on_partitions_revoked(lost)


class AnnotatorProcess:
    """One annotator of the group.

    Args:
        specs: what to ask, by spec id; published already.
        on_step: see :class:`~consumers.transactions.TransactionWriter`.
    """

    def __init__(
        self,
        settings: Settings,
        specs: Mapping[bytes, AnnotationSpec],
        model: LanguageModel,
        membership: Membership,
        on_step: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.summary = Summary()
        self._settings, self._specs, self._membership = settings, dict(specs), membership
        self._topics = TopicNames(settings.topic_prefix)
        self._codec = codec_for(settings)
        self._asking = Asking(model)
        self._annotator = Annotator(specs, model.origin, membership.name, self._codec, self._topics)
        self._writer = TransactionWriter(settings, f"{membership.group}.{membership.name}", on_step)
        self._restoring: dict[int, _Restoring] = {}
        self._started = time.monotonic()
        self._asked = 0
        self._fencings = 0
        self._offsets_due = self._labels_due = 0.0
        self._is_ready = False

    def run(self, stopping: threading.Event) -> Summary:
        """Annotate until ``stopping`` is set.

        Raises:
            OnibusError: the cluster or the model refuses, in one line.
        """
        self._started = time.monotonic()
        try:
            self._asking.start()
            self._connect()
            while not stopping.is_set():
                self._turn(stopping)
            self._finish(stopping)
        except ModelRefusedError as error:
            raise OnibusError(str(error)) from error
        finally:
            self._close()
            self.summary.seconds = time.monotonic() - self._started
        return self.summary

    # --- connecting and closing ---------------------------------------------------------------------

    def _connect(self) -> None:
        try:
            self._writer.open(self._written_topics())
        except KafkaError as error:
            raise OnibusError(f"the cluster refuses transactions: {error}; check its log and ACLs") from error
        self._admin = clients.admin(self._settings)
        self._feed = LabelFeed(self._settings, self._codec)
        self._caption_log = CaptionLog(self._settings)
        self._consumer = clients.consumer(
            self._settings,
            group_id=self._membership.group,
            partition_assignment_strategy=[CooperativeStickyAssignor()],
            max_poll_records=_RECORDS_PER_POLL,
            max_poll_interval_ms=60_000,
            session_timeout_ms=self._membership.session_timeout_ms,
            heartbeat_interval_ms=self._membership.session_timeout_ms // 4,
        )
        self._ownership = _Ownership(self._consumer)
        self._consumer.subscribe([self._topics.captions], listener=self._ownership)

    def _written_topics(self) -> list[str]:
        return [self._topics.labels, self._topics.annotations, self._topics.dead_letters]

    def _finish(self, stopping: threading.Event) -> None:
        deadline = time.monotonic() + _LAST_ANSWERS_SECONDS
        while self._asked and (left := deadline - time.monotonic()) > 0:
            self._take_answers(left)
        while self._annotator.has_finished and self._write(stopping):
            pass

    def _close(self) -> None:
        self._asking.stop()
        for name in ("_consumer", "_feed", "_caption_log", "_admin"):
            if (part := getattr(self, name, None)) is not None:
                with contextlib.suppress(KafkaError):  # the broker may be away; the group will notice
                    part.close(**({"timeout_ms": 2_000} if name == "_consumer" else {}))
        self._writer.close()

    # --- one turn of the loop -------------------------------------------------------------------------

    def _turn(self, stopping: threading.Event) -> None:
        try:
            records = self._poll()
            self._restore()
            self._follow_labels()
            self._see(records)
            if not len(self._annotator.pending):
                self._read_back()
        except _REFUSED as error:
            raise OnibusError(f"the cluster does not allow it: {error}; mend the ACLs") from error
        except (KafkaError, RegistryError, TimeoutError) as error:
            self._start_over(None, error, stopping)
            return
        self._ask()
        waits = self._asked and not records and not self._annotator.has_finished
        self._take_answers(_ANSWER_WAIT_SECONDS if waits else 0.0)
        if self._annotator.has_finished or time.monotonic() > self._offsets_due:
            self._write(stopping)
        self._report()

    def _poll(self) -> dict[TopicPartition, list[Any]]:
        busy = self._asked or self._annotator.has_finished or len(self._annotator.pending)
        timeout = 0 if busy else 10 if self._restoring else _IDLE_POLL_MS
        records: dict[TopicPartition, list[Any]] = self._consumer.poll(timeout_ms=timeout)
        for given, tp in self._ownership.events:
            if given:
                self._restoring[tp.partition] = _Restoring()
            else:
                self._leave(tp.partition)
        self._ownership.events.clear()
        return records

    def _leave(self, partition: int) -> None:
        self._feed.remove(partition)
        if self._restoring.pop(partition, None) is None:
            self._annotator.end(partition)

    def _see(self, records: Mapping[TopicPartition, list[Any]]) -> None:
        for tp, batch in records.items():
            if tp.partition not in self._annotator.partitions:
                continue
            known = self._annotator.see(
                tp.partition, [r.offset for r in batch], [r.key for r in batch], [r.value for r in batch]
            )
            self.summary.consumed += len(batch)
            self.summary.known += known
            metrics.CAPTIONS_CONSUMED.inc(len(batch))
            metrics.CAPTIONS_KNOWN.inc(known)

    def _read_back(self) -> None:
        owed = self._annotator.pending.next_range(_READ_BACK_OFFSETS)
        if owed is None:
            return
        for batch in self._caption_log.read(owed, timeout=10.0):
            self._annotator.see(
                owed.partition,
                [r.offset for r in batch],
                [r.key for r in batch],
                [r.value for r in batch],
                read_back=owed,
            )
        self._annotator.pending.was_read_back(owed)

    def _ask(self) -> None:
        room = self._membership.most_under_way - self._annotator.under_way
        if room > 0:
            questions = self._annotator.questions(room)
            self._asking.ask(questions)
            self._asked += len(questions)

    def _take_answers(self, timeout: float) -> None:
        for answer in self._asking.answers(timeout):
            self._asked -= 1
            self._annotator.answered(answer)

    # --- restoring ------------------------------------------------------------------------------------

    def _restore(self) -> None:
        for partition, state in list(self._restoring.items()):
            tp = TopicPartition(self._topics.captions, partition)
            if state.position is None:
                state.position = self._committed_or_first(tp)
            if state.position is not None and state.labels_end is None:
                state.labels_end = self._high_watermark(partition)
                state.table = self._feed.add(partition)
        if not self._restoring:
            self._note_ready()
            return
        self._feed.poll(timeout_ms=50)
        for partition, state in list(self._restoring.items()):
            if state.labels_end is None or not self._feed.has_passed(partition, state.labels_end):
                continue
            assert state.position is not None
            assert state.table is not None
            del self._restoring[partition]
            self._annotator.begin(partition, state.position, state.table)
            tp = TopicPartition(self._topics.captions, partition)
            self._consumer.seek(tp, state.position)
            self._consumer.resume(tp)

    def _committed_or_first(self, tp: TopicPartition) -> int | None:
        """Where to go on; None while an earlier owner's transaction with offsets is open (KIP-447)."""
        try:
            committed = self._consumer.committed(tp, timeout_ms=500)
            if committed is None:
                committed = self._consumer.beginning_offsets([tp])[tp]
        except KafkaError as error:
            if not error.retriable:
                raise
            return None
        return int(committed)

    def _high_watermark(self, partition: int) -> int:
        """The end of a partition of ``labels``, uncommitted records included."""
        tp = TopicPartition(self._topics.labels, partition)
        return int(self._admin.list_partition_offsets({tp: OffsetSpec.LATEST}, timeout_ms=5_000)[tp].offset)

    def _follow_labels(self) -> None:
        if time.monotonic() > self._labels_due:
            self._feed.poll(timeout_ms=0)
            self._labels_due = time.monotonic() + _LABELS_EVERY_SECONDS

    def _note_ready(self) -> None:
        if self._is_ready or self._consumer.group_metadata().state != MemberState.STABLE:
            return
        if not self._annotator.partitions and time.monotonic() < self._started + _EMPTY_HANDED_SECONDS:
            return  # the first assignment may be made before the topic is known
        self._is_ready = True
        _log.info(
            "ready: annotator %s of group %s, %d partitions",
            self._membership.name,
            self._membership.group,
            len(self._annotator.partitions),
        )

    # --- writing --------------------------------------------------------------------------------------

    def _write(self, stopping: threading.Event) -> bool:
        """Write one batch; whether something was written."""
        member = self._consumer.group_metadata()
        if member.state != MemberState.STABLE:
            return False  # in a rebalance; what is finished waits for its end
        self._offsets_due = time.monotonic() + _OFFSETS_EVERY_SECONDS
        batch = self._annotator.batch(_CAPTIONS_PER_TRANSACTION, time.time_ns() // 1000)
        if batch is None:
            return False
        offsets = {TopicPartition(self._topics.captions, p): o for p, o in batch.offsets.items()}
        try:
            self._writer.write(batch.records, offsets, member, stopping)
        except TransactionFailedError as error:
            if isinstance(error.cause, _REFUSED):
                raise OnibusError(f"the cluster does not allow it: {error}; mend the ACLs") from error
            self._start_over(batch, error.cause, stopping)
            return False
        self._fencings = 0
        self._annotator.committed(batch)
        self._count(batch)
        return True

    def _start_over(self, batch: Batch | None, cause: Exception, stopping: threading.Event) -> None:
        """Nobody knows what was written: have the log tell, for every partition."""
        _log.warning("starting over from the log after %s: %s", type(cause).__name__, cause)
        self._count_fencing(cause)
        if batch is not None:
            self.summary.failed_transactions += 1
            metrics.TRANSACTIONS.labels(outcome="failed").inc()
        owned = [*self._annotator.partitions, *self._restoring]
        self._annotator.failed(batch or Batch())
        self._restoring.clear()
        self._writer.close()
        while not stopping.is_set():
            try:
                self._writer.open(self._written_topics())
                break
            except (KafkaError, UnreachableError) as error:
                if not getattr(error, "may_pass", True):
                    raise
                _log.warning("%s; trying again", error)
                stopping.wait(_RETRY_SECONDS)
        self._consumer.pause(*self._consumer.assignment())
        for partition in owned:
            self._feed.remove(partition)
            self._restoring[partition] = _Restoring()

    def _count_fencing(self, cause: Exception) -> None:
        if not isinstance(cause, ProducerFencedError):
            return
        self._fencings += 1
        if self._fencings >= _MOST_FENCINGS:
            raise OnibusError(
                f"another annotator of group {self._membership.group} is called {self._membership.name} too; "
                "give each its own --name"
            )

    def _count(self, batch: Batch) -> None:
        now = time.time_ns() // 1000
        self.summary.transactions += 1
        self.summary.labels += len(batch.labels)
        self.summary.dead_letters += batch.dead_letters
        metrics.TRANSACTIONS.labels(outcome="committed").inc()
        metrics.DEAD_LETTERS.labels(component="annotator").inc(batch.dead_letters)
        for label in batch.labels:
            name = self._specs[label.spec_id].name
            metrics.LABELS_WRITTEN.labels(spec=name, verdict=label.verdict.value).inc()
            metrics.LABEL_LATENCY.labels(spec=name).observe(max(0, now - label.observed_at) / 1e6)
        for answer in batch.answers:
            name = self._specs[answer.question.spec_id].name
            metrics.MODEL_CALLS.labels(
                spec=name, outcome="unreadable" if answer.given_up else "answered"
            ).inc(max(1, len(answer.attempts)))
            for attempt in answer.attempts:
                metrics.MODEL_SECONDS.labels(spec=name).observe(attempt.latency_us / 1e6)
                metrics.TOKENS.labels(spec=name, direction="in").inc(attempt.tokens_in)
                metrics.TOKENS.labels(spec=name, direction="out").inc(attempt.tokens_out)

    def _report(self) -> None:
        metrics.PENDING.set(len(self._annotator.pending))
        metrics.OWED_ON_LOG.set(self._annotator.pending.owed_offsets)
