"""The process around :class:`~consumers.annotator.Annotator`: consumer group, asking, writing.

One thread polls, decides and writes; the language model is asked in another. Nothing is polled while a
transaction is open, and nothing is written while the group is being rebalanced, so the assignment cannot
change between putting a batch together and the broker's check of it. Whatever fails, there is one way on:
a new producer, and every partition restored from the log.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kafka import TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    GroupMaxSizeReachedError,
    InconsistentGroupProtocolError,
    InvalidGroupIdError,
    InvalidSessionTimeoutError,
    KafkaError,
    ProducerFencedError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailedError,
)

from consumers.annotation_counts import Counts, Summary
from consumers.annotator import COMPARISONS, Annotator, Batch
from consumers.asking import Asking
from consumers.caption_pool import CaptionPool
from consumers.group_member import GroupMember
from consumers.language_model import LanguageModel, ModelRefusedError
from consumers.partition_logs import CaptionLog
from consumers.pending import Pending
from consumers.pool_feed import PoolFeed
from consumers.transactions import TransactionFailedError, TransactionWriter
from infra import metrics
from infra.codecs import codec_for
from infra.errors import OnibusError
from infra.reachability import UnreachableError
from infra.settings import Settings
from infra.topics import TopicNames
from schemas.codec import RegistryError
from schemas.records import AnnotationSpec, Kind

_log = logging.getLogger(__name__)

_IDLE_POLL_MS = 100
_CAPTIONS_PER_TRANSACTION = 1_000
_READ_BACK_OFFSETS = 5_000
_ANSWER_WAIT_SECONDS = 0.02
_OFFSETS_EVERY_SECONDS = 1.0
"""How often offsets are committed when there is nothing else to write."""
_RETRY_SECONDS = 1.0
_LONGEST_RETRY_SECONDS = 5.0
_LAST_ANSWERS_SECONDS = 2.5
"""How long a stopping annotator waits for answers that are under way."""
_MOST_FENCINGS = 3
_EMPTY_HANDED_SECONDS = 5.0
"""After how long an annotator without a partition (there are more annotators) counts as ready."""
_REFUSED = (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    GroupMaxSizeReachedError,
    InconsistentGroupProtocolError,
    InvalidGroupIdError,
    InvalidSessionTimeoutError,
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


class AnnotatorProcess:
    """One annotator of the group.

    Args:
        specs: what to ask, by spec id; published already.
        pending: the stack to use, if not one of the usual size.
        on_step: see :class:`~consumers.transactions.TransactionWriter`.
    """

    def __init__(
        self,
        settings: Settings,
        specs: Mapping[bytes, AnnotationSpec],
        model: LanguageModel,
        membership: Membership,
        on_step: Callable[[str], None] = lambda _: None,
        pending: Pending | None = None,
        comparisons: int = COMPARISONS,
    ) -> None:
        self._counts = Counts(specs)
        self._settings, self._specs, self._membership = settings, dict(specs), membership
        self._topics = TopicNames(settings.topic_prefix)
        self._codec = codec_for(settings)
        self._asking = Asking(model)
        self._member: GroupMember | None = None
        self._caption_log: CaptionLog | None = None
        self._pool = CaptionPool()
        self._pool_feed: PoolFeed | None = None
        self._annotator = Annotator(
            specs, model.origin, membership.name, self._codec, self._topics, pending, self._pool, comparisons
        )
        self._writer = TransactionWriter(settings, f"{membership.group}.{membership.name}", on_step)
        self._started = time.monotonic()
        self._asked = 0
        self._fencings = self._failures = 0
        self._offsets_due = 0.0
        self._is_ready = False

    @property
    def summary(self) -> Summary:
        """What it did so far."""
        return self._counts.summary

    def run(self, stopping: threading.Event) -> Summary:
        """Annotate until ``stopping`` is set.

        Raises:
            OnibusError: the cluster or the model refuses, in one line.
        """
        self._started = time.monotonic()
        try:
            self._asking.start()
            self._connect(stopping)
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

    def _connect(self, stopping: threading.Event) -> None:
        try:
            self._writer.open(self._written_topics(), stopping)
        except TransactionFailedError as error:
            raise OnibusError(f"the cluster refuses transactions: {error}; check its log and ACLs") from error
        self._caption_log = CaptionLog(self._settings)
        if any(spec.kind is Kind.COMPARE_TWO for spec in self._specs.values()):
            self._pool_feed = PoolFeed(self._settings, self._codec, self._pool)
            self._pool_feed.load()
        self._member = GroupMember(
            self._settings,
            self._codec,
            self._membership.group,
            self._membership.session_timeout_ms,
            self._annotator.begin,
            self._annotator.end,
        )

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
        if self._member is not None:
            self._member.close()
        for reader in (self._caption_log, self._pool_feed):
            if reader is not None:
                with contextlib.suppress(KafkaError):  # the broker may be away
                    reader.close()
        self._writer.close()

    # --- one turn of the loop -------------------------------------------------------------------------

    def _turn(self, stopping: threading.Event) -> None:
        assert self._member is not None
        busy = self._asked or self._annotator.has_finished or len(self._annotator.pending)
        try:
            records = self._member.poll(timeout_ms=0 if busy else _IDLE_POLL_MS)
            self._see(records)
            if self._pool_feed is not None:
                self._pool_feed.follow()
            for record in self._member.take_unreadable_labels():
                place = (record.topic, record.partition, record.offset)
                self._annotator.give_up(*place, record.key, record.value, "unreadable label")
            if not len(self._annotator.pending):
                self._read_back()
        except _REFUSED as error:
            raise self._not_allowed(error) from error
        except UnreachableError as error:
            if not error.may_pass:
                raise
            self._start_over(None, error, stopping)
            return
        except (KafkaError, RegistryError, TimeoutError) as error:
            self._start_over(None, error, stopping)
            return
        self._note_ready()
        self._ask()
        waits = self._asked and not records and not self._annotator.has_finished
        self._take_answers(_ANSWER_WAIT_SECONDS if waits else 0.0)
        if self._annotator.has_finished or time.monotonic() > self._offsets_due:
            self._write(stopping)
        self._report()

    def _see(self, records: Mapping[int, list[ConsumerRecord]]) -> None:
        for partition, batch in records.items():
            known = self._annotator.see(
                partition, [r.offset for r in batch], [r.key for r in batch], [r.value for r in batch]
            )
            self._counts.consumed(len(batch), known)

    def _read_back(self) -> None:
        owed = self._annotator.pending.next_range(_READ_BACK_OFFSETS)
        if owed is None:
            return
        assert self._caption_log is not None
        for batch in self._caption_log.read(owed, timeout=5.0):
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

    # --- writing --------------------------------------------------------------------------------------

    def _write(self, stopping: threading.Event) -> bool:
        """Write one batch; whether something was written."""
        assert self._member is not None
        metadata = self._member.stable_metadata()
        if metadata is None:
            return False  # in a rebalance; what is finished waits for its end
        self._offsets_due = time.monotonic() + _OFFSETS_EVERY_SECONDS
        try:
            batch = self._annotator.batch(_CAPTIONS_PER_TRANSACTION, time.time_ns() // 1000)
        except RegistryError as error:
            self._start_over(None, error, stopping)
            return False
        if batch is None:
            return False
        offsets = {TopicPartition(self._topics.captions, p): o for p, o in batch.offsets.items()}
        try:
            self._writer.write(batch.records, offsets, metadata, stopping)
        except TransactionFailedError as error:
            if isinstance(error.cause, _REFUSED):
                raise self._not_allowed(error.cause) from error
            self._start_over(batch, error.cause, stopping)
            return False
        self._fencings = self._failures = 0
        self._annotator.committed(batch)
        self._counts.committed(batch)
        return True

    def _start_over(self, batch: Batch | None, cause: Exception, stopping: threading.Event) -> None:
        """Nobody knows what was written: have the log tell, for every partition."""
        _log.warning("starting over from the log after %s: %s", type(cause).__name__, cause)
        if self._failures:  # not the first in a row
            stopping.wait(min(_LONGEST_RETRY_SECONDS, 0.1 * 2**self._failures))
        self._failures += 1
        self._count_fencing(cause)
        if batch is not None:
            self._counts.failed()
        assert self._member is not None
        if batch is not None:
            self._annotator.failed(batch)
        self._member.restore_again()
        self._writer.close()
        while not stopping.is_set():
            try:
                self._writer.open(self._written_topics(), stopping)
                break
            except (TransactionFailedError, UnreachableError) as error:
                if not getattr(error, "may_pass", True):
                    raise
                _log.warning("%s; trying again", error)
                stopping.wait(_RETRY_SECONDS)

    def _not_allowed(self, error: Exception) -> OnibusError:
        return OnibusError(
            f"the cluster does not let {self._membership.name} annotate in group {self._membership.group}: "
            f"{type(error).__name__}: {error}; mend its ACLs or its group settings"
        )

    def _count_fencing(self, cause: Exception) -> None:
        if not isinstance(cause, ProducerFencedError):
            return
        self._fencings += 1
        if self._fencings >= _MOST_FENCINGS:
            raise OnibusError(
                f"another annotator of group {self._membership.group} is called {self._membership.name} too; "
                "give each its own --name"
            )

    def _note_ready(self) -> None:
        assert self._member is not None
        if self._is_ready or self._member.is_restoring or self._member.stable_metadata() is None:
            return
        if not self._member.partitions and time.monotonic() < self._started + _EMPTY_HANDED_SECONDS:
            return
        self._is_ready = True
        _log.info(
            "ready: annotator %s of group %s, %d partitions",
            self._membership.name,
            self._membership.group,
            len(self._member.partitions),
        )

    def _report(self) -> None:
        metrics.PENDING.set(len(self._annotator.pending))
        metrics.OWED_ON_LOG.set(self._annotator.pending.owed_offsets)
