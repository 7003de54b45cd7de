"""Feeds a :class:`~onibus.consumers.labels.table.LabelTable` from ``labels``: load it, then follow it."""

from __future__ import annotations

import logging
from collections.abc import Callable

from onibus.consumers.labels.table import LabelTable
from onibus.infra.kafka import clients
from onibus.infra.kafka.codecs import codec_for
from onibus.infra.kafka.follower import TopicFollower
from onibus.infra.kafka.log_end import until_end
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.observability import metrics
from onibus.infra.settings import Settings
from onibus.schemas.codec import RegistryError

_log = logging.getLogger(__name__)

_POLL_MS = 200
_RECORDS_PER_POLL = 5_000


def read_labels(settings: Settings) -> LabelTable:
    """Every label that is on the topic now.

    Raises:
        OnibusError: the cluster cannot be reached, or has no such topic.
    """
    table = LabelTable(codec_for(settings))
    for records in clients.read_all(settings, TopicNames(settings.topic_prefix).labels):
        table.apply([r.key for r in records], [r.value for r in records])
    return table


class LabelReader(TopicFollower):
    """Reads every partition of ``labels``, without a consumer group, read_committed.

    ``load()`` first, then ``start()``; ``stop()`` at the end. While the broker is unavailable the table
    stays as it is; afterwards reading continues where it stopped.

    Args:
        on_new: called with keys and values of each batch after loading, once it is in the table.

    Attributes:
        loaded: whether the table held everything that was committed when ``load`` began.
        failed: see :class:`~onibus.infra.kafka.follower.TopicFollower`.
    """

    def __init__(
        self,
        settings: Settings,
        table: LabelTable,
        on_new: Callable[[list[bytes | None], list[bytes | None]], None] = lambda keys, values: None,
    ) -> None:
        super().__init__(settings, TopicNames(settings.topic_prefix).labels)
        self._table, self._on_new = table, on_new
        self.loaded = False

    def load(self, timeout: float = 60.0) -> int:
        """Read until ``position >= end offset`` on every partition, with end offsets taken at the start.

        Args:
            timeout: seconds without progress after which it gives up.

        Returns:
            Number of records read.

        Raises:
            OnibusError: the cluster cannot be reached, has no such topic, or makes no progress.
        """
        read, partitions = 0, self._connect(_RECORDS_PER_POLL)
        for _ in until_end(self._consumer, partitions, stall_seconds=timeout):
            read += self._take_batch()
        self.loaded = True
        return read

    def start(self) -> None:
        """Follow the topic in a daemon thread until :meth:`stop`."""
        if not self.loaded:
            raise RuntimeError("load() the table before following it")
        super().start()

    def _take_batch(self) -> int:
        assert self._consumer is not None
        read = 0
        polled = self._consumer.poll(timeout_ms=_POLL_MS)
        while polled:
            partition, records = next(iter(polled.items()))
            keys, values = [r.key for r in records], [r.value for r in records]
            try:
                unreadable = self._table.apply(keys, values)
            except RegistryError:
                clients.seek_back(self._consumer, polled)
                raise
            del polled[partition]
            if self.loaded:
                self._on_new(keys, values)
            if unreadable:
                metrics.UNREADABLE.labels(topic=self._topic).inc(unreadable)
                _log.warning("skipped %d unreadable records on %s", unreadable, self._topic)
            read += len(records)
        return read
