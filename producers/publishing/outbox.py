"""A queue between the environment, which must never wait, and the thread that talks to Kafka."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from onibus.schemas.records import CaptionObserved, EpisodeFinished

BURST_RECORDS = 1024
"""Records that leave together at most."""
BURST_BYTES = 4 << 20
"""And their bytes, unless a single record has more."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record on its way to the bus."""

    record: CaptionObserved | EpisodeFinished
    key: bytes
    size: int
    """Bytes it is counted as, about what it takes in memory and on the wire."""
    patience: float
    """Seconds that must have passed since the last burst before this record causes another."""
    lost: Callable[[], None]
    """Called from the publishing thread if the record was given up."""


class Outbox:
    """First in, first out; bounded by ``records`` and ``size`` bytes; :meth:`put` never waits.

    Records leave in bursts: a request to the broker costs kafka-python 1.5 ms of CPU time, a further record
    in it 0.06 ms. The first record after a quiet time leaves at once, those behind it wait for each other.
    """

    def __init__(self, records: int, size: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._records, self._bytes, self._clock = records, size, clock
        self._queue: deque[Outgoing] = deque()
        self._queued_bytes = 0
        self._last_burst = float("-inf")
        self._due = float("inf")
        self._changed = threading.Condition()
        self.closed = False
        """Whether no more records are taken."""

    def put(self, outgoing: Outgoing) -> bool:
        """Add a record; False if there is no room, or no one will come for it."""
        with self._changed:
            full = len(self._queue) >= self._records or self._queued_bytes + outgoing.size > self._bytes
            if full or self.closed:
                return False
            self._queue.append(outgoing)
            self._queued_bytes += outgoing.size
            self._be_due(self._last_burst + outgoing.patience)
            return True

    def take(self, timeout: float) -> list[Outgoing]:
        """The next burst, oldest record first; empty if none is due within ``timeout`` seconds."""
        with self._changed:
            deadline = self._clock() + timeout
            while not (self._queue and (self._due <= self._clock() or self.closed)):
                left = min(deadline, self._due) - self._clock()
                if self.closed or deadline <= self._clock():
                    return []
                self._changed.wait(max(0.0, left))
            return self._next_burst()

    def hurry(self) -> None:
        """Let what is inside leave at once."""
        with self._changed:
            if self._queue:
                self._be_due(float("-inf"))

    def close(self) -> None:
        """Take no more records; those inside leave at once."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()

    def __len__(self) -> int:
        return len(self._queue)

    def _be_due(self, at: float) -> None:
        if at < self._due:
            self._due = at
            self._changed.notify()

    def _next_burst(self) -> list[Outgoing]:
        burst = [self._queue.popleft()]
        size = burst[0].size
        while self._queue and len(burst) < BURST_RECORDS and size + self._queue[0].size <= BURST_BYTES:
            burst.append(self._queue.popleft())
            size += burst[-1].size
        self._queued_bytes -= size
        self._last_burst = self._clock()
        self._due = self._last_burst if self._queue else float("inf")
        return burst
