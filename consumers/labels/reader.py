"""Feeds a :class:`~onibus.consumers.labels.table.LabelTable` from ``labels``: load it, then follow it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from kafka import KafkaConsumer
from kafka.errors import KafkaError

from onibus.consumers.labels.table import LabelTable
from onibus.infra.kafka import clients
from onibus.infra.kafka.codecs import codec_for
from onibus.infra.kafka.log_end import until_end
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.kafka.transient import raise_unless_transient
from onibus.infra.observability import metrics
from onibus.infra.settings import Settings
from onibus.schemas.codec import RegistryError

_log = logging.getLogger(__name__)

_POLL_MS = 200
_RECORDS_PER_POLL = 5_000
_RETRY_SECONDS = 1.0


def read_labels(settings: Settings) -> LabelTable:
    """Every label that is on the topic now.

    Raises:
        OnibusError: the cluster cannot be reached, or has no such topic.
    """
    table = LabelTable(codec_for(settings))
    for records in clients.read_all(settings, TopicNames(settings.topic_prefix).labels):
        table.apply([r.key for r in records], [r.value for r in records])
    return table


class LabelReader:
    """Reads every partition of ``labels``, without a consumer group, read_committed.

    ``load()`` first, then ``start()``; ``stop()`` at the end. While the broker is unavailable the table
    stays as it is; afterwards reading continues where it stopped.

    Args:
        on_new: called with keys and values of each batch after loading, once it is in the table.

    Attributes:
        loaded: whether the table held everything that was committed when ``load`` began.
        failed: what ended the following thread, if something did.
    """

    def __init__(
        self,
        settings: Settings,
        table: LabelTable,
        on_new: Callable[[list[bytes | None], list[bytes | None]], None] = lambda keys, values: None,
    ) -> None:
        self._on_new = on_new
        self.loaded = False
        self.failed: BaseException | None = None
        self._settings = settings
        self._table = table
        self._topic = TopicNames(settings.topic_prefix).labels
        self._consumer: KafkaConsumer | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def load(self, timeout: float = 60.0) -> int:
        """Read until ``position >= end offset`` on every partition, with end offsets taken at the start.

        Args:
            timeout: seconds without progress after which it gives up.

        Returns:
            Number of records read.

        Raises:
            OnibusError: the cluster cannot be reached, has no such topic, or makes no progress.
        """
        self._consumer = clients.consumer(self._settings, max_poll_records=_RECORDS_PER_POLL)
        read, partitions = 0, clients.partitions_of(self._consumer, self._topic)
        for _ in until_end(self._consumer, partitions, stall_seconds=timeout):
            read += self._take_batch()
        self.loaded = True
        return read

    def start(self) -> None:
        """Follow the topic in a daemon thread until :meth:`stop`."""
        if not self.loaded:
            raise RuntimeError("load() the table before following it")
        self._thread = threading.Thread(target=self._follow, name="label-reader", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End following and close the connection; the table stays usable."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=10)
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None

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

    def _follow(self) -> None:
        try:
            while not self._stopping.is_set():
                try:
                    self._take_batch()
                except (KafkaError, RegistryError) as error:
                    raise_unless_transient(error, f"reading {self._topic}")
                    _log.warning("reading %s: %s; retrying", self._topic, error)
                    self._stopping.wait(_RETRY_SECONDS)
        except BaseException as error:
            self.failed = error
            _log.exception("no longer following %s", self._topic)
            raise
