"""Publishing that no step ever waits for: a bounded outbox, and a thread that owns the Kafka producer.

kafka-python puts no bound on a producer's memory and may block for metadata, so the thread hands it one
burst at a time and waits for the broker's answer; the outbox then fills, and what finds no room is dropped
and counted. Every record ends in exactly one of the counts published and dropped.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kafka.errors import KafkaError, KafkaTimeoutError, MessageSizeTooLargeError

from onibus.infra.errors import OnibusError
from onibus.infra.kafka import clients
from onibus.infra.kafka.clock import ClockWatch, explained
from onibus.infra.kafka.codecs import codec_for
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.kafka.transient import is_transient
from onibus.infra.observability import metrics
from onibus.infra.settings import Settings
from onibus.producers.publishing.outbox import Outbox, Outgoing
from onibus.schemas.codec import Codec
from onibus.schemas.errors import RegistryError
from onibus.schemas.ids import caption_partition
from onibus.schemas.records import CaptionObserved

if TYPE_CHECKING:
    from kafka import KafkaProducer

_log = logging.getLogger("onibus.publisher")

OUTBOX_RECORDS = 8192
"""Records that may wait for the thread: some minutes of new captions."""
OUTBOX_BYTES = 16 << 20
"""And their bytes; one recorded episode has up to 1 MiB."""
RETRY_SECONDS = 1.0
"""Pause after a failed attempt to reach the cluster."""

FORCED_CLOSE_SECONDS = 0.5
"""How long kafka-python's thread gets to fail what it still has."""
STOP_GRACE_SECONDS = 2.5
"""How long a close waits for a thread that is stuck in the client; it is a daemon and holds nothing up."""

_CLIENT_SETTINGS: dict[str, Any] = {
    # kafka-python 3.0.12: once a batch of an idempotent producer has expired (an outage longer than the
    # delivery timeout), its partition never sends again. A record that a retry writes twice does no harm
    # here: a caption is judged once however often it is read, an episode's key tells copies apart.
    "enable_idempotence": False,
    "linger_ms": 10,  # the outbox lingers: what leaves together need only be found together
    "bootstrap_timeout_ms": 2_000,  # the thread must notice a stop, and tries again anyway
    "max_block_ms": 2_000,
    "delivery_timeout_ms": 120_000,
    "reconnect_backoff_max_ms": 1_000,  # a broker that comes back is found within about a second
}


@dataclass(slots=True)
class DeliveryCounts:
    """What became of the records of one kind."""

    published: int = 0
    dropped: int = 0


class Publisher:
    """Ships :class:`Outgoing` records in a daemon thread of its own; started by the first record."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topics = TopicNames(settings.topic_prefix)
        self._outbox = Outbox(OUTBOX_RECORDS, OUTBOX_BYTES)
        self._changed = threading.Condition()
        self._in_flight = 0  # records of the burst that is out
        self._unsettled = 0  # accepted, neither published nor dropped yet
        self._give_up_at: float | None = None
        self._thread: threading.Thread | None = None
        self._producer: KafkaProducer | None = None
        self._unreachable = False
        self._codec: Codec | None = None
        self._clock = ClockWatch()
        self.captions = DeliveryCounts()
        self.episodes = DeliveryCounts()

    def put(self, outgoing: Outgoing) -> None:
        """Accept or drop a record, at once and without an exception, whatever the cluster does."""
        with self._changed:
            self._unsettled += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="onibus-publisher", daemon=True)
                self._thread.start()
        if not self._outbox.put(outgoing):
            self._settle(outgoing, published=False)

    def flush(self, timeout: float) -> bool:
        """Wait until every accepted record is published or dropped; False after ``timeout`` seconds."""
        self._outbox.hurry()
        with self._changed:
            return self._changed.wait_for(lambda: self._unsettled == 0, timeout)

    def close(self, timeout: float) -> None:
        """Take no more records, deliver what is inside for up to ``timeout`` seconds, drop the rest."""
        self._give_up_at = time.monotonic() + timeout
        self._outbox.close()
        with self._changed:
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout + STOP_GRACE_SECONDS)

    # The publishing thread

    def _run(self) -> None:
        while not (self._outbox.closed and len(self._outbox) == 0):
            for outgoing in self._outbox.take(timeout=1.0):
                self._ship(outgoing)
            self._wait_until_landed()
        if self._producer is not None:
            _shut(self._producer, timeout=max(0.0, self._remaining()))

    def _ship(self, outgoing: Outgoing) -> None:
        """Hand one record to kafka-python, trying until that works or there is no time left."""
        while not self._stopping():
            try:
                self._producer = self._producer or self._connect()
                self._send(self._producer, outgoing)
                return
            except (KafkaError, OnibusError, OSError, RegistryError) as error:
                self._report(error)
                if self._producer is not None and not is_transient(error):
                    _shut(self._producer, timeout=0.0)
                    self._producer = None
                self._pause()
        self._settle(outgoing, published=False)

    def _wait_until_landed(self) -> None:
        """One burst at a time. It bounds what is in flight; and kafka-python 3.0.12 spins, a whole core,
        while more is ready to be sent than its five requests in flight, as with a slow broker."""
        with self._changed:
            while self._in_flight and not self._stopping():
                self._changed.wait(timeout=0.2)  # time passes unannounced

    def _connect(self) -> KafkaProducer:
        self._codec = self._codec or codec_for(self._settings)
        producer = clients.producer(self._settings, **_CLIENT_SETTINGS)
        # kafka-python's exit handler runs before ours and raises if anything is undelivered: see _shut.
        producer._unregister_cleanup()
        return producer

    def _send(self, producer: KafkaProducer, outgoing: Outgoing) -> None:
        """Hand one record to kafka-python, which batches, retries and reports in a thread of its own."""
        is_caption = isinstance(outgoing.record, CaptionObserved)
        topic = self._topics.captions if is_caption else self._topics.episodes
        partition = 0
        assert self._codec is not None
        if is_caption:
            partition = caption_partition(outgoing.key, self._settings.partitions)
        try:
            future = producer.send(
                topic, self._codec.encode(topic, outgoing.record), key=outgoing.key, partition=partition
            )
        except MessageSizeTooLargeError as error:
            _log.warning("a record of %d bytes is dropped: %s", outgoing.size, error)
            self._settle(outgoing, published=False)
            return
        with self._changed:
            self._in_flight += 1
        future.add_callback(self._delivered, outgoing)
        future.add_errback(self._failed, outgoing)

    def _delivered(self, outgoing: Outgoing, metadata: Any) -> None:
        self._clock.see(metadata.timestamp)
        self._landed(outgoing)
        self._settle(outgoing, published=True)
        if self._unreachable:
            self._unreachable = False
            _log.info("the bus is back; publishing goes on")

    def _failed(self, outgoing: Outgoing, error: BaseException) -> None:
        self._landed(outgoing)
        self._report(error)
        self._settle(outgoing, published=False)

    def _landed(self, outgoing: Outgoing) -> None:
        with self._changed:
            self._in_flight -= 1
            self._changed.notify_all()

    def _settle(self, outgoing: Outgoing, *, published: bool) -> None:
        is_caption = isinstance(outgoing.record, CaptionObserved)
        counts = self.captions if is_caption else self.episodes
        if published:
            (metrics.CAPTIONS_PUBLISHED if is_caption else metrics.EPISODES_PUBLISHED).inc()
        else:
            (metrics.CAPTIONS_DROPPED if is_caption else metrics.EPISODES_DROPPED).inc()
            outgoing.lost()
        with self._changed:
            if published:
                counts.published += 1
            else:
                counts.dropped += 1
            self._unsettled -= 1
            self._changed.notify_all()

    def _report(self, error: BaseException) -> None:
        """Say it once an outage, not once a record."""
        if not self._unreachable:
            self._unreachable = True
            _log.warning("publishing waits, playing goes on: %s", explained(error))

    def _remaining(self) -> float:
        return float("inf") if self._give_up_at is None else self._give_up_at - time.monotonic()

    def _stopping(self) -> bool:
        return self._remaining() <= 0

    def _pause(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._give_up_at is not None, RETRY_SECONDS)


def _shut(producer: KafkaProducer, timeout: float) -> None:
    """Close a producer; what is undelivered after ``timeout`` seconds fails, and so is counted.

    kafka-python's own ``close`` raises then and leaves its thread running.
    """
    try:
        producer.flush(timeout)
    except KafkaTimeoutError:
        producer._sender.force_close()
        producer._sender.join(FORCED_CLOSE_SECONDS)
    producer.close(timeout=FORCED_CLOSE_SECONDS)
