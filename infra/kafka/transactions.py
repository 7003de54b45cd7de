"""Writes batches of records and consumed offsets, all of a batch or nothing (KIP-98, KIP-447).

After a transaction fails, for whatever reason, a new producer is opened; it is never aborted and retried with
the old one. kafka-python 3.0 keeps the offsets of an aborted transaction and would send them with the next
one, for partitions that may belong to another member by then; and after a time-out the outcome is unknown.
``init_transactions`` of the new producer commits or aborts what the old one left open.
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

from onibus.infra.errors import OnibusError
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
    headers: Sequence[tuple[str, bytes]] = ()


class TransactionFailedError(Exception):
    """A transaction was not committed, or its outcome is unknown; ``cause`` is Kafka's error."""

    def __init__(self, cause: KafkaError) -> None:
        super().__init__(explained(cause))
        self.cause = cause

    @property
    def was_fenced(self) -> bool:
        """Whether a later producer of the same transactional id took over; then nothing was committed."""
        return any(isinstance(error, _FENCED) for error in (self.cause, *self.cause.args))


class TransactionWriter:
    """The transactional producer of one group member.

    Args:
        transactional_id: prefix included; a second producer with the same one fences the first.
        on_step: called in every transaction: with "beginning" before anything is sent, with "records
            sent" when they are on the log, and with "offsets sent" when only the commit remains.
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
        """Connect, and end what an earlier producer of this id left open. ``topics`` will be written to.

        Raises:
            OnibusError: the cluster cannot be reached.
            TransactionFailedError: it refuses, or takes too long.
        """
        self._producer = within_patience(lambda: self._opened(topics), stopping)

    def _opened(self, topics: Sequence[str]) -> KafkaProducer:
        # Each transaction has to wait some milliseconds for the end of the one before; kafka-python's
        # back-off of 100 ms would be most of a label's latency.
        producer = clients.transactional_producer(self._settings, self._id, retry_backoff_ms=10)
        producer.init_transactions()
        for topic in topics:
            producer.partitions_for(topic)  # otherwise the first transaction waits for it
        return producer

    def write(
        self,
        records: Sequence[OutgoingRecord],
        offsets: Mapping[TopicPartition, OffsetAndMetadata],
        member: ConsumerGroupMetadata,
        on_end: Callable[[], None] = lambda: None,
    ) -> InThread[None]:
        """Begin to write records and offsets in one transaction as this member of the group.

        One at a time. Its result raises TransactionFailedError if it was not committed, or the outcome is
        unknown; call :meth:`close` and :meth:`open` then.

        Args:
            member: taken before the batch was put together, from a consumer in a stable group.
            on_end: called in another thread when the transaction has ended, however it ended.
        """
        producer = self._producer
        assert producer is not None
        return InThread(lambda: self._transact(producer, records, offsets, member), on_end)

    def close(self) -> None:
        """Close the connection; an open transaction ends by its time-out, or with the next :meth:`open`."""
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
            # The broker accepts offsets without these from anyone: nothing would fence us.
            raise KafkaError("no longer a member of the group")
        self._on_step("beginning")
        producer.begin_transaction()
        # The labels must be on the log before the broker checks that we are still in the group: then the
        # next owner of the partition finds them below the high watermark.
        _send_all(producer, records)
        self._on_step("records sent")
        producer.send_offsets_to_transaction(offsets, member)
        self._on_step("offsets sent")
        producer.commit_transaction()


def open_producer(settings: Settings, transactional_id: str) -> KafkaProducer:
    """A producer for :func:`send_transaction`, which fences earlier ones with its transactional id.

    Raises:
        OnibusError: the cluster cannot be reached, or refuses.
    """

    def opened() -> KafkaProducer:
        producer = clients.transactional_producer(settings, transactional_id)
        producer.init_transactions()
        return producer

    try:
        return within_patience(opened)
    except TransactionFailedError as error:
        raise OnibusError(f"the cluster refuses transactions: {error}; check its log and ACLs") from error


def send_transaction(producer: KafkaProducer, records: Sequence[OutgoingRecord]) -> None:
    """Write records in one transaction, and wait until it is committed.

    Raises:
        KafkaError: it was not committed, or the outcome is unknown.
    """
    producer.begin_transaction()
    _send_all(producer, records)
    producer.commit_transaction()


def _send_all(producer: KafkaProducer, records: Sequence[OutgoingRecord]) -> None:
    sent: list[Any] = []
    try:
        for r in records:
            sent.append(  # noqa: PERF401 - what was sent before an error is examined
                producer.send(
                    r.topic, key=r.key, value=r.value, partition=r.partition, headers=list(r.headers)
                )
            )
    except IllegalStateError:
        # kafka-python ends a fenced transaction in its own thread: the next send then only says that no
        # transaction is open. The records before it have the reason.
        for future in sent:
            future.get(timeout=_LAST_SECONDS)
        raise
    producer.flush(timeout=PATIENCE_SECONDS)
    for future in sent:
        metadata = future.get(timeout=0)
    if sent:
        _clock.see(metadata.timestamp)


def give_up(producer: KafkaProducer) -> None:
    """Close a producer without waiting for records that it has not sent."""
    with contextlib.suppress(KafkaTimeoutError):
        producer.close(timeout=0)
        return
    # There are unsent records. kafka-python's close() then fails before it ends the producer's thread,
    # which would continue the transaction when the broker comes back.
    sender = producer._sender
    sender.force_close()
    sender.join(_LAST_SECONDS)
    with contextlib.suppress(KafkaTimeoutError):
        producer.close(timeout=0)


class InThread(Generic[T]):
    """Work with a Kafka client in a thread of its own, since kafka-python waits for a lost broker forever.

    Args:
        work: what to do; after :data:`PATIENCE_SECONDS` its result is no longer waited for.
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
        """Whether it has ended or timed out, so that :meth:`result` returns at once."""
        return bool(self._results or self._errors) or self.seconds > PATIENCE_SECONDS

    def succeeds_within(self, seconds: float) -> bool:
        """Whether the work succeeds within that time."""
        self._thread.join(seconds)
        return bool(self._results)

    def result(self, stopping: threading.Event) -> T:
        """Wait for the result; only briefly once ``stopping`` is set.

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


def within_patience(work: Callable[[], T], stopping: threading.Event | None = None) -> T:
    """Do ``work`` in a thread and wait for it; raises as :meth:`InThread.result`."""
    return InThread(work).result(stopping or threading.Event())
