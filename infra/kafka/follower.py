"""Following a topic in a thread: what readers without a group have in common."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from onibus.infra.kafka import clients
from onibus.infra.kafka.transient import raise_unless_transient
from onibus.infra.settings import Settings
from onibus.schemas.errors import RegistryError

_log = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0
_JOIN_SECONDS = 10.0


class TopicFollower(ABC):
    """Reads all partitions of a topic, without a consumer group, read_committed, in a daemon thread.

    While the broker or the schema registry is away it tries again and again; then it reads on where it was.

    Attributes:
        failed: what ended the thread, if something did.
    """

    def __init__(self, settings: Settings, topic: str) -> None:
        self.failed: BaseException | None = None
        self._settings, self._topic = settings, topic
        self._consumer: KafkaConsumer | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Follow the topic until :meth:`stop`."""
        self._thread = threading.Thread(target=self._follow, name=f"follow {self._topic}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End following and close the connection; what was read stays usable."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(_JOIN_SECONDS)
        if self._consumer is not None:
            self._consumer.close(timeout_ms=1_000)
            self._consumer = None

    def _connect(self, records_per_poll: int) -> list[TopicPartition]:
        """Connect; the topic's partitions, of which none is assigned yet."""
        self._consumer = clients.consumer(self._settings, max_poll_records=records_per_poll)
        return clients.partitions_of(self._consumer, self._topic)

    @abstractmethod
    def _take_batch(self) -> object:
        """Poll once, and take over what came; after a RegistryError the same comes again."""

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
