"""Writes batches of records and consumed offsets, all of a batch or nothing (KIP-98, KIP-447).

A transaction that fails in whatever way is followed by a new producer, never by an abort and another try.
kafka-python 3.0 keeps the offsets of an aborted transaction and would send them with the next one, for
partitions that may belong to somebody else by then; and after a time-out nobody knows how it ended.
``init_transactions`` of the new producer ends what the old one left open, one way or the other.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from kafka import KafkaProducer, TopicPartition
from kafka.errors import (
    IllegalStateError,
    InvalidProducerEpochError,
    KafkaError,
    KafkaTimeoutError,
    ProducerFencedError,
)
from kafka.structs import ConsumerGroupMetadata, OffsetAndMetadata

from onibus.infra.kafka import clients
from onibus.infra.kafka.clock import ClockWatch, explained
from onibus.infra.settings import Settings

_log = logging.getLogger(__name__)

PATIENCE_SECONDS = 12.0
"""How long a transaction may take: the broker aborts it after ten seconds anyway."""
PATIENCE_WHEN_STOPPING = 3.0
_LAST_SECONDS = 1.0
_GENERATION_UNKNOWN = -1
_clock = ClockWatch()
_FENCED = (ProducerFencedError, InvalidProducerEpochError)

T = TypeVar("T")


class OutgoingRecord(NamedTuple):
    """A record to write; without a value it is a tombstone."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None


class TransactionFailedError(Exception):
    """A transaction was not committed, or nobody knows; ``cause`` is Kafka's error."""

    def __init__(self, cause: KafkaError) -> None:
        super().__init__(f"{type(cause).__name__}: {explained(cause)}")
        self.cause = cause

    @property
    def was_fenced(self) -> bool:
        """Whether a later producer of the same transactional id took over: then nothing was committed."""
        return any(isinstance(error, _FENCED) for error in (self.cause, *self.cause.args))


class TransactionWriter:
    """The transactional producer of one group member.

    Args:
        transactional_id: full; a second producer with the same one fences the first.
        on_step: called in every transaction: with "beginning" before anything is sent, with "records
            sent" when they are on the log, and with "offsets sent" when only the commit is left.
    """

    def __init__(
        self,
        settings: Settings,
        transactional_id: str,
        on_step: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._settings, self._id = settings, transactional_id
        self._on_step = on_step
        self._producer: KafkaProducer | None = None

    def open(self, topics: Sequence[str], stopping: threading.Event) -> None:
        """Connect, and end what an earlier producer of this id left open. ``topics`` are those to write to.

        Raises:
            OnibusError: the cluster cannot be reached.
            TransactionFailedError: it refuses, or takes too long.
        """
        self._producer = within_patience(lambda: self._opened(topics), stopping)

    def _opened(self, topics: Sequence[str]) -> KafkaProducer:
        # Each transaction runs into the end of the one before for some milliseconds; kafka-python's
        # back-off of 100 ms would be most of a label's latency.
        producer = clients.transactional_producer(self._settings, self._id, retry_backoff_ms=10)
        producer.init_transactions()
        for topic in topics:
            producer.partitions_for(topic)  # else the first transaction waits for it
        return producer

    def write(
        self,
        records: Sequence[OutgoingRecord],
        offsets: Mapping[TopicPartition, OffsetAndMetadata],
        member: ConsumerGroupMetadata,
        on_end: Callable[[], None] = lambda: None,
    ) -> InThread[None]:
        """Begin to write records and offsets in one transaction as this member of the group.

        One at a time. Its result raises TransactionFailedError if it was not committed, or nobody knows;
        then :meth:`close`, :meth:`open`.

        Args:
            member: from before the batch was put together, of a consumer in a stable group.
            on_end: called in another thread when it has ended, in whatever way.
        """
        producer = self._producer
        assert producer is not None
        return InThread(lambda: self._transact(producer, records, offsets, member), on_end)

    def close(self) -> None:
        """Give up the connection; an open transaction is left to time out, or to the next :meth:`open`."""
        if self._producer is not None:
            producer, self._producer = self._producer, None
            give_up(producer)

    def _transact(
        self,
        producer: KafkaProducer,
        records: Sequence[OutgoingRecord],
        offsets: Mapping[TopicPartition, OffsetAndMetadata],
        member: ConsumerGroupMetadata,
    ) -> None:
        if member.generation_id == _GENERATION_UNKNOWN or not member.member_id:
            # The broker takes offsets without these from anybody: nothing would fence us.
            raise KafkaError("no member of the group any more")
        self._on_step("beginning")
        producer.begin_transaction()
        # The labels must be on the log before the broker looks whether we are still of the group: then
        # whoever owns the partition next finds them below the high watermark.
        _send_all(producer, records)
        self._on_step("records sent")
        producer.send_offsets_to_transaction(offsets, member)
        self._on_step("offsets sent")
        producer.commit_transaction()


def send_transaction(producer: KafkaProducer, records: Sequence[OutgoingRecord]) -> None:
    """Write records in one transaction, and wait until it is committed.

    Raises:
        KafkaError: it was not committed, or nobody knows.
    """
    producer.begin_transaction()
    _send_all(producer, records)
    producer.commit_transaction()


def _send_all(producer: KafkaProducer, records: Sequence[OutgoingRecord]) -> None:
    sent: list[Any] = []
    try:
        for r in records:
            sent.append(  # noqa: PERF401 - those sent before an error are looked at
                producer.send(r.topic, key=r.key, value=r.value, partition=r.partition)
            )
    except IllegalStateError:
        # kafka-python ends a fenced transaction in its own thread: the next send then only says that there
        # is none. Why is known from the records before it.
        for future in sent:
            future.get(timeout=_LAST_SECONDS)
        raise
    producer.flush(timeout=PATIENCE_SECONDS)
    for future in sent:
        metadata = future.get(timeout=0)
    if sent:
        _clock.see(metadata.timestamp)


def give_up(producer: KafkaProducer) -> None:
    """Close a producer without waiting for what it has not sent."""
    with contextlib.suppress(KafkaTimeoutError):
        producer.close(timeout=0)
        return
    # There are records that it could not send. kafka-python's close() then fails before it ends the
    # producer's thread, which would go on with the transaction whenever the broker comes back.
    sender = producer._sender
    sender.force_close()
    sender.join(_LAST_SECONDS)
    with contextlib.suppress(KafkaTimeoutError):
        producer.close(timeout=0)


class InThread(Generic[T]):
    """Work with a Kafka client in a thread of its own: kafka-python waits for a lost broker without end.

    Args:
        work: what to do; it has :data:`PATIENCE_SECONDS`, after which nobody waits for it any more.
        on_end: called in that thread when the work has ended.
    """

    def __init__(self, work: Callable[[], T], on_end: Callable[[], None] = lambda: None) -> None:
        self._work, self._on_end = work, on_end
        self._results: list[T] = []
        self._errors: list[BaseException] = []
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="transaction", daemon=True)
        self._thread.start()

    @property
    def seconds(self) -> float:
        """How long ago it began."""
        return time.monotonic() - self._began

    @property
    def is_over(self) -> bool:
        """Whether it has ended, or nobody waits any more: :meth:`result` returns at once."""
        return bool(self._results or self._errors) or self.seconds > PATIENCE_SECONDS

    def succeeds_within(self, seconds: float) -> bool:
        """Whether the work ends well in that time."""
        self._thread.join(seconds)
        return bool(self._results)

    def result(self, stopping: threading.Event) -> T:
        """Wait for its end; not long, once ``stopping`` is set.

        Raises:
            TransactionFailedError: Kafka's error, or it took too long.
        """
        while not self.is_over:
            if stopping.is_set():
                self._thread.join(PATIENCE_WHEN_STOPPING)
                break
            self._thread.join(0.1)
        if self._results:
            return self._results[0]
        if not self._errors:
            raise TransactionFailedError(KafkaTimeoutError("the cluster did not answer in time"))
        error = self._errors[0]
        if isinstance(error, KafkaError):
            raise TransactionFailedError(error) from error
        raise error

    def _run(self) -> None:
        try:
            self._results.append(self._work())
        except BaseException as error:  # raised again in the caller's thread
            self._errors.append(error)
        self._on_end()


def within_patience(work: Callable[[], T], stopping: threading.Event) -> T:
    """Do ``work`` in a thread and wait for it; raises as :meth:`InThread.result`."""
    return InThread(work).result(stopping)
