"""A queue between the environment, which must never wait, and the thread that talks to Kafka."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from schemas.records import CaptionObserved, EpisodeFinished


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record on its way to the bus."""

    record: CaptionObserved | EpisodeFinished
    key: bytes
    size: int
    """Bytes it is counted as, about what it takes in memory and on the wire."""
    lost: Callable[[], None]
    """Called from the publishing thread if the record was given up."""


class Outbox:
    """First in, first out; bounded by ``records`` and ``size`` bytes; :meth:`put` never waits."""

    def __init__(self, records: int, size: int) -> None:
        self._records, self._bytes = records, size
        self._queue: deque[Outgoing] = deque()
        self._queued_bytes = 0
        self._closed = False
        self._changed = threading.Condition()

    def put(self, outgoing: Outgoing) -> bool:
        """Add a record; False if there is no room, or nobody will come for it."""
        with self._changed:
            full = len(self._queue) >= self._records or self._queued_bytes + outgoing.size > self._bytes
            if full or self._closed:
                return False
            self._queue.append(outgoing)
            self._queued_bytes += outgoing.size
            self._changed.notify()
            return True

    def take(self, timeout: float) -> Outgoing | None:
        """The oldest record; None if none came within ``timeout`` seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._queue or self._closed, timeout) or not self._queue:
                return None
            outgoing = self._queue.popleft()
            self._queued_bytes -= outgoing.size
            return outgoing

    def close(self) -> None:
        """Take no more records; those inside can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def __len__(self) -> int:
        return len(self._queue)
