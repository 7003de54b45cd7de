"""How far a consumer group is behind: end offsets minus committed offsets."""

from __future__ import annotations

import logging
import threading

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from onibus.infra.errors import OnibusError
from onibus.infra.kafka.clients import consumer
from onibus.infra.settings import Settings

log = logging.getLogger(__name__)

EVERY_SECONDS = 1.0
CLOSE_SECONDS = 2.0


class ConsumerLag:
    """Watches the lag of ``group`` on ``topic`` without joining the group.

    Its own thread asks the cluster, so that callers never wait for an unavailable broker.
    """

    def __init__(self, settings: Settings, group: str, topic: str) -> None:
        self._settings, self._group, self._topic = settings, group, topic
        self._newest: int | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="consumer-lag", daemon=True)
        self._thread.start()

    def total(self) -> int | None:
        """Number of records behind, transaction markers included; None if the cluster does not respond."""
        return self._newest

    def close(self) -> None:
        """Stop watching."""
        self._stopping.set()
        self._thread.join(CLOSE_SECONDS)

    def _watch(self) -> None:
        while not self._stopping.is_set():
            try:
                reader = consumer(self._settings, group_id=self._group)
                try:
                    self._follow(reader)
                finally:
                    self._newest = None
                    reader.close()
            except (KafkaError, OnibusError) as error:
                log.debug("the lag of %s is currently unknown: %s", self._group, error)
            self._stopping.wait(EVERY_SECONDS)

    def _follow(self, reader: KafkaConsumer) -> None:
        partitions = [TopicPartition(self._topic, n) for n in reader.partitions_for_topic(self._topic) or ()]
        while not self._stopping.wait(EVERY_SECONDS):
            starts, ends = reader.beginning_offsets(partitions), reader.end_offsets(partitions)
            self._newest = sum(lag_of(reader.committed(p), starts[p], ends[p]) for p in partitions)


def lag_of(committed: int | None, start: int, end: int) -> int:
    """Records that a group has yet to read; an offset that is not on the log comes from an earlier log."""
    if committed is None or not start <= committed <= end:
        return end - start
    return end - committed
