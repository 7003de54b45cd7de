"""Reads single records by their positions on a topic."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import KafkaError

from onibus.infra.errors import OnibusError
from onibus.infra.kafka import clients
from onibus.infra.settings import Settings

_PATIENCE_SECONDS = 10.0
_POLL_MS = 200
_FETCH: dict[str, Any] = {
    "max_poll_records": 1,
    "max_partition_fetch_bytes": 64 * 1024,  # the broker returns at least one batch, however large
    "fetch_max_wait_ms": 20,  # kafka-python fetches ahead; at the end of the log that must not take long
}


class RecordLookup:
    """Reads records of a topic one by one. Any thread may call it; calls take turns.

    It connects at the first call, and again after an error.

    Args:
        topic: its full name.
    """

    def __init__(self, settings: Settings, topic: str) -> None:
        self._settings, self._topic = settings, topic
        self._consumer: KafkaConsumer | None = None
        self._lock = threading.Lock()

    def read(self, places: Iterable[tuple[int, int]]) -> list[ConsumerRecord]:
        """The records at these (partition, offset), in this order; those that no longer exist are left out.

        Raises:
            OnibusError: the cluster cannot be reached, or returns nothing for ten seconds.
        """
        with self._connected() as consumer:
            records = [self._record(consumer, *place) for place in places]
        return [record for record in records if record is not None]

    def has(self, partition: int, offset: int) -> bool:
        """Whether the log of the topic has this place; reading one that it does not have takes ten seconds.

        Raises:
            OnibusError: the cluster cannot be reached.
        """
        tp = TopicPartition(self._topic, partition)
        with self._connected() as consumer:
            if partition not in (consumer.partitions_for_topic(self._topic) or ()):
                return False
            first, end = consumer.beginning_offsets([tp])[tp], consumer.end_offsets([tp])[tp]
        return bool(first <= offset < end)

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._close()

    @contextmanager
    def _connected(self) -> Iterator[KafkaConsumer]:
        """The consumer, for one thread at a time; after an error it is another the next time."""
        with self._lock:
            try:
                self._consumer = self._consumer or clients.consumer(self._settings, **_FETCH)
                yield self._consumer
            except (KafkaError, TimeoutError) as error:
                self._close()
                raise OnibusError(f"reading {self._topic}: {error}; check that the brokers are up") from error

    def _close(self) -> None:
        if self._consumer is not None:
            consumer, self._consumer = self._consumer, None
            consumer.close(timeout_ms=1_000)

    def _record(self, consumer: KafkaConsumer, partition: int, offset: int) -> ConsumerRecord | None:
        tp = TopicPartition(self._topic, partition)
        consumer.assign([tp])
        consumer.seek(tp, offset)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while (consumer.position(tp, timeout_ms=1_000) or 0) <= offset:
            if time.monotonic() > deadline:
                raise TimeoutError(f"nothing arrived from partition {partition} at offset {offset}")
            for record in consumer.poll(timeout_ms=_POLL_MS).get(tp, ()):
                if record.offset == offset:
                    return record
        return None
