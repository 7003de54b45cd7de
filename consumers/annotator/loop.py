"""The process around an annotator's :mod:`~onibus.consumers.annotator.decisions`: group, asking, writing.

One thread polls and decides; the language model is asked in another, and a transaction runs in a third. So
the next questions are on the wire while the last answers are being committed, and polling goes on however
long the model or a commit takes. Nothing is written while the group is being rebalanced, and for the first
second of a transaction, which is nearly always all of it, nothing is polled: so the assignment does not
change between putting a batch together and the broker's check of it. If it does after all, the broker
refuses the batch. Whatever fails, there is one way on: a new producer, and every partition restored from
the log.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import KafkaError, ProducerFencedError

from onibus.consumers.annotator.allowance import Allowance
from onibus.consumers.annotator.asking_again import AskingAgain
from onibus.consumers.annotator.batch import BatchRecords
from onibus.consumers.annotator.batch_sending import BatchSender
from onibus.consumers.annotator.budget import GroupBudget, Limits
from onibus.consumers.annotator.caption_filter import CaptionFilter
from onibus.consumers.annotator.comparison_partners import ComparisonPartners
from onibus.consumers.annotator.counters import AnnotatorCounts, AnnotatorSummary
from onibus.consumers.annotator.decisions import COMPARISONS, Annotator
from onibus.consumers.annotator.followers import Followers
from onibus.consumers.annotator.group_member import GroupMember
from onibus.consumers.annotator.membership import Membership, StopTime
from onibus.consumers.annotator.model_thread import Asking
from onibus.consumers.annotator.partition_readers import CaptionLog, columns
from onibus.consumers.annotator.pending import Pending
from onibus.consumers.language_models.base import Answer, Attempt, LanguageModel, ModelRefusedError
from onibus.infra.errors import OnibusError
from onibus.infra.kafka.clock import explained
from onibus.infra.kafka.codecs import codec_for
from onibus.infra.kafka.reachability import UnreachableError
from onibus.infra.kafka.record_limits import largest_values
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.kafka.transactions import TransactionFailedError, TransactionWriter
from onibus.infra.kafka.transient import raise_unless_transient
from onibus.infra.observability import metrics
from onibus.infra.settings import Settings
from onibus.schemas.codec import RegistryError
from onibus.schemas.records import AnnotationSpec

_log = logging.getLogger(__name__)

_IDLE_POLL_MS = 100
_MOST_FINISHED = 2_000
"""Captions answered and not written at which asking pauses: what is paid for must fit into memory."""
_POLL_AGAIN_SECONDS = 1.0
"""How long polling pauses for a transaction. A rebalance that begins meanwhile would cost the batch."""
_READ_BACK_OFFSETS = 5_000
_ANSWER_WAIT_SECONDS = _POLL_EVERY_SECONDS = 0.02
"""How often captions are polled for while answers come one by one."""
_POLL_WHEN_FED_SECONDS = 0.2
"""How often, while there is plenty to ask: a poll costs a millisecond that a model beside us could use."""
_RETRY_SECONDS, _LONGEST_RETRY_SECONDS = 1.0, 5.0
_LAST_REBALANCE_SECONDS = 2.0
"""How much longer than for answers it waits for the end of a rebalance, to write what is finished."""
_LOOK_SECONDS = 0.2
_MOST_FENCINGS = 3
_EMPTY_HANDED_SECONDS = 5.0
"""After how long an annotator without a partition (there are more annotators) counts as ready."""


class AnnotatorProcess:
    """One annotator of the group.

    Args:
        specs: what to ask, by spec id.
        pending: the stack to use, if not one of the usual size.
        limits: what the group may spend; none, if not given.
        caption_filter: which captions each spec is asked about; all, if not given.
        near_pairs: whether captions are compared that the specs' reward models score alike.
        ask_again: how often to ask each of the ``judges`` further about a caption or pair at most.
        begin: publishes the specs and commits where the group begins: last before joining it.
        on_step: see :class:`~onibus.infra.kafka.transactions.TransactionWriter`.
    """

    def __init__(
        self,
        settings: Settings,
        specs: Mapping[bytes, AnnotationSpec],
        model: LanguageModel,
        membership: Membership,
        on_step: Callable[[str], None] = lambda _: None,
        pending: Pending | None = None,
        limits: Limits | None = None,
        comparisons: int = COMPARISONS,
        caption_filter: CaptionFilter | None = None,
        begin: Callable[[], object] = lambda: None,
        near_pairs: bool = False,
        ask_again: int = 0,
        judges: int = 1,
    ) -> None:
        limits = limits or Limits()
        prices = limits.prices if limits.prices.are_given else None
        self._counts = AnnotatorCounts(specs, prices)
        self._settings, self._specs, self._membership = settings, dict(specs), membership
        self._topics = TopicNames(settings.topic_prefix)
        self._codec = codec_for(settings)
        self._asking = Asking(model)
        self._member: GroupMember | None = None
        self._caption_log: CaptionLog | None = None
        self._partners = ComparisonPartners()
        self._followers: Followers | None = None
        again = AskingAgain(ask_again, judges) if ask_again else None
        records = BatchRecords(specs, model.origin, membership.name, self._codec, self._topics, prices)
        self._annotator = Annotator(records, pending, self._partners, comparisons, caption_filter, again)
        self._caption_filter, self._begin, self._near_pairs = caption_filter, begin, near_pairs
        self._writer = TransactionWriter(settings, f"{membership.group}.{membership.name}", on_step)
        self._budget = GroupBudget(settings, self._codec, limits, specs, membership.name, membership.group)
        self._allowance = Allowance(self._budget, self._annotator, settings.partitions, len(specs))
        self._writing = BatchSender(
            self._annotator, self._writer, self._topics.captions, self._asking.wake, self._budget.mark
        )
        self._stop = StopTime(membership.stop_seconds)
        self._started = time.monotonic()
        self._fencings = self._failures = 0
        self._polled_at, self._has_read = 0.0, False
        self._told: int | None = None  # the last number of partitions, once it is ready

    @property
    def summary(self) -> AnnotatorSummary:
        """What it did so far."""
        return self._counts.summary

    def run(self, stopping: threading.Event) -> AnnotatorSummary:
        """Annotate until ``stopping`` is set.

        Raises:
            OnibusError: the cluster or the model refuses, in one line.
        """
        self._started = time.monotonic()
        try:
            probe = self._asking.start(stopping)
            if stopping.is_set():
                return self.summary
            self._count_probe(probe)
            self._connect(stopping)
            while not stopping.is_set() and not self._allowance.is_spent():
                self._turn(stopping)
            self._write_the_rest(stopping)
        except ModelRefusedError as error:
            self._write_the_rest(stopping)
            raise OnibusError(str(error)) from error
        finally:
            self._counts.not_written(self._annotator.finished)
            self._close()
            self.summary.seconds = time.monotonic() - self._started
        return self.summary

    def _count_probe(self, probe: Attempt | None) -> None:
        if probe is not None:
            self._counts.probed(next(iter(self._specs)), probe)
            self._budget.probed(probe)

    # --- connecting and closing ---------------------------------------------------------------------

    def _connect(self, stopping: threading.Event) -> None:
        try:
            self._writer.open(self._written_topics(), stopping)
        except TransactionFailedError as error:
            raise OnibusError(f"the cluster refuses transactions: {error}; check its log and ACLs") from error
        self._annotator.records.limit(largest_values(self._settings, self._written_topics()))
        self._budget.load(stopping)
        self._caption_log = CaptionLog(self._settings)
        followed = (self._annotator, self._partners, self._caption_filter, self._near_pairs)
        self._followers = Followers(self._settings, self._codec, self._specs, *followed)
        self._followers.load(stopping)
        self._begin()
        self._member = GroupMember(
            self._settings,
            self._codec,
            self._membership.group,
            self._membership.session_timeout_ms,
            self._annotator.begin,
            self._annotator.end,
            partial(self._finish, stopping),
            static_name=self._membership.name if self._membership.is_static else None,
            comparing=self._annotator.comparing,
        )

    def _written_topics(self) -> list[str]:
        return [self._topics.labels, self._topics.annotations, self._topics.dead_letters]

    def _write_the_rest(self, stopping: threading.Event) -> None:
        """Write what has been paid for, if the cluster lets us soon."""
        if self._member is None:
            return
        self._take(self._asking.last_answers(self._stop.seconds_left()))
        self._annotator.finish_half_answered(self._annotator.partitions)
        self._annotator.asked.clear()
        deadline = time.monotonic() + self._stop.seconds_left() + _LAST_REBALANCE_SECONDS
        while self._writing.is_under_way or self._annotator.has_finished:
            if self._writing.is_under_way or self._begin_to_write(stopping):
                if not self._end_writing(stopping):
                    return
            elif self._member.stable_metadata() is not None or time.monotonic() > deadline:
                return
            else:
                with contextlib.suppress(KafkaError, OnibusError, RegistryError):
                    self._member.poll(timeout_ms=0)

    def _close(self) -> None:
        self._asking.stop()
        for part in (self._member, self._budget, self._followers, self._caption_log, self._writer):
            if part is not None:
                part.close()

    # --- one turn of the loop -------------------------------------------------------------------------

    def _turn(self, stopping: threading.Event) -> None:
        has_read = self._read(stopping) if self._may_poll() else False
        if stopping.is_set():
            return
        self._note_ready()
        self._ask()
        is_owing = self._asking.missing or self._annotator.has_finished
        waits = self._writing.is_under_way or (is_owing and not self._writing.is_worthwhile)
        self._take(self._asking.answers(_ANSWER_WAIT_SECONDS if waits and not has_read else 0.0))
        if self._writing.is_over:
            self._end_writing(stopping)
        if self._writing.is_due:
            self._begin_to_write(stopping)
        self._report()

    def _may_poll(self) -> bool:
        if self._writing.is_under_way:
            return self._writing.seconds > _POLL_AGAIN_SECONDS
        return not self._asking.missing or time.monotonic() > self._polled_at + self._poll_every()

    def _poll_every(self) -> float:
        """Often while captions come, or few are pending."""
        room = self._membership.most_under_way - self._annotator.under_way
        is_fed = not self._has_read and len(self._annotator.pending) > room
        return _POLL_WHEN_FED_SECONDS if is_fed else _POLL_EVERY_SECONDS

    def _read(self, stopping: threading.Event) -> bool:
        """Poll once; whether there were captions."""
        assert self._member is not None
        self._polled_at = time.monotonic()
        busy = self._asking.missing or self._annotator.has_finished or len(self._annotator.pending)
        try:
            records = self._member.poll(timeout_ms=0 if busy or self._writing.is_under_way else _IDLE_POLL_MS)
            self._see(records)
            assert self._followers is not None
            self._followers.follow()
            self._budget.follow(stopping)
            for record in self._member.take_unreadable_labels():
                place = (record.topic, record.partition, record.offset)
                self._annotator.give_up(*place, record.key, record.value, "unreadable label")
            if not len(self._annotator.pending) and not self._member.is_behind:
                self._read_back(stopping)
        except (KafkaError, RegistryError, TimeoutError, UnreachableError) as error:
            self._start_over(error, stopping)
            return False
        self._has_read = bool(records)
        return self._has_read

    def _see(self, records: Mapping[int, list[ConsumerRecord]]) -> None:
        for partition, batch in records.items():
            known = self._annotator.see(partition, *columns(batch))
            self._counts.consumed(len(batch), known)

    def _read_back(self, stopping: threading.Event) -> None:
        owed = self._annotator.pending.next_range(_READ_BACK_OFFSETS)
        if owed is None:
            return
        assert self._caption_log is not None
        for batch in self._caption_log.read(owed, 5.0, stopping):
            known = self._annotator.see(owed.partition, *columns(batch), read_back=owed)
            if not self._annotator.pending.was_read(owed.partition, batch[-1].offset):
                self._counts.consumed(len(batch), known)
        if not stopping.is_set():  # else it may not have been read whole, and stays owed
            self._annotator.pending.was_read_back(owed)

    def _ask(self) -> None:
        most = self._membership.most_under_way
        room = min(most - self._annotator.under_way, self._allowance.affordable(most))
        if room > 0 and self._annotator.finished < _MOST_FINISHED:
            self._asking.ask(self._annotator.questions(room))

    def _take(self, answers: Sequence[Answer]) -> None:
        for answer in answers:
            self._annotator.answered(answer)

    # --- writing --------------------------------------------------------------------------------------

    def _finish(self, stopping: threading.Event, partitions: Collection[int]) -> None:
        """Write what is paid for of partitions that go to others, also what is answered soon.

        What was not sent yet is left to the others. Called within a poll (see
        :class:`~onibus.consumers.annotator.group_member.GroupMember`). What fails here is dealt with after
        it: the answers are kept, and so is the failed transaction or the refusal.
        """
        patience = self._membership.session_timeout_ms / 1000 / 4
        asked = self._annotator.asked
        asked.taken_back(self._asking.take_back(asked.only_about(partitions)))
        with contextlib.suppress(ModelRefusedError, RegistryError):
            deadline = time.monotonic() + patience
            while asked.is_about(partitions) and (left := self._stop.left_until(deadline, stopping)) > 0:
                self._take(self._asking.answers(min(left, _LOOK_SECONDS)))
                if stopping.is_set():
                    asked.taken_back(self._asking.take_back())
            self._annotator.finish_half_answered(partitions)
            leaving = asked.only_about(partitions, half_answered=True)
            asked.taken_back(self._asking.take_back(leaving, paid=True))
            deadline = time.monotonic() + patience
            while self._writing.is_under_way or (self._annotator.has_finished and self._begin_batch()):
                if not self._writing.ends_well_within(deadline - time.monotonic()):
                    return
                self._end_writing(stopping)

    def _begin_to_write(self, stopping: threading.Event) -> bool:
        """As :meth:`_begin_batch`, and no error but one that does not pass."""
        try:
            return self._begin_batch()
        except RegistryError as error:
            self._start_over(error, stopping)
            return False

    def _begin_batch(self) -> bool:
        assert self._member is not None
        return self._writing.begin(self._member.stable_metadata())

    def _end_writing(self, stopping: threading.Event) -> bool:
        """Wait for the end of the transaction that is under way; whether it was committed."""
        try:
            batch = self._writing.end(stopping)
        except TransactionFailedError as error:
            self._start_over(error.cause, stopping)
            return False
        self._fencings = self._failures = 0
        self._counts.committed(batch)
        self._budget.committed(batch)
        return True

    def _start_over(self, cause: Exception, stopping: threading.Event) -> None:
        """No one knows what was written: have the log tell, for every partition.

        Raises:
            OnibusError: ``cause`` is nothing that passes by itself.
        """
        if (refusal := self._membership.refusal(cause)) is not None:
            raise refusal from cause
        if isinstance(cause, UnreachableError) and not cause.may_pass:
            raise cause
        _log.warning("starting over from the log: %s", explained(cause))
        if self._failures:  # not the first in a row
            stopping.wait(min(_LONGEST_RETRY_SECONDS, 0.1 * 2**self._failures))
        self._failures += 1
        self._count_fencing(cause)
        if self._writing.give_up():
            self._counts.failed()
        assert self._member is not None
        self._member.restore_again()
        self._writer.close()
        while not stopping.is_set():
            try:
                self._writer.open(self._written_topics(), stopping)
                break
            except (TransactionFailedError, UnreachableError) as error:
                raise_unless_transient(error, "writing labels")
                _log.warning("%s; trying again", error)
                stopping.wait(_RETRY_SECONDS)

    def _count_fencing(self, cause: Exception) -> None:
        if not isinstance(cause, ProducerFencedError):
            return
        self._fencings += 1
        if self._fencings >= _MOST_FENCINGS:
            raise self._membership.not_alone()

    def _note_ready(self) -> None:
        """Say once that it is ready, and from then on each other number of partitions."""
        assert self._member is not None
        count, is_first = len(self._member.partitions), self._told is None
        if count == self._told or self._member.is_restoring or self._member.stable_metadata() is None:
            return
        if is_first and not count and time.monotonic() < self._started + _EMPTY_HANDED_SECONDS:
            return
        if is_first:
            self._annotator.records.ready_at(time.time_ns() // 1000)
        self._told = count
        who = "ready" if is_first else "now", self._membership.name, self._membership.group, count
        _log.info("%s: annotator %s of group %s, %d partitions", *who)

    def _report(self) -> None:
        metrics.PENDING.set(len(self._annotator.pending))
        metrics.OWED_ON_LOG.set(self._annotator.pending.owed_offsets)
