"""What one rollout process says to the bus: captions that are new to it, and finished episodes."""

from __future__ import annotations

import atexit
import os
import time
from itertools import islice

from infra import metrics
from infra.settings import Settings
from producers.captions import TABLE_CAPTIONS, Caption
from producers.episodes import episode_key
from producers.outbox import Outgoing
from producers.publisher import Counts, Publisher
from schemas.records import CaptionObserved, EpisodeFinished

AGAIN_SECONDS = 60.0
"""A caption that is seen again is published again after this time, so that nothing important stays lost."""
AGAIN_AFTER_LOSS_SECONDS = 2.0
"""And sooner if its record was dropped."""
FLUSH_SECONDS = 5.0
"""How long the last environment's close waits for delivery: a stop must not take 10 s."""

_RECORD_OVERHEAD = 500
"""Bytes that a queued record takes besides its text or actions, about."""


class RolloutBus:
    """Captions and episodes of one process on their way to Kafka. No method waits, but flush and close."""

    def __init__(self, settings: Settings, run: str, task: str) -> None:
        self._run, self._task = run, task
        self._publisher = Publisher(settings)
        self._due: dict[int, list[float]] = {}  # by look-up id: when to publish it again, as a cell
        self._environments = 0

    @property
    def captions(self) -> Counts:
        """Captions published and dropped so far."""
        return self._publisher.captions

    @property
    def episodes(self) -> Counts:
        """Episodes published and dropped so far."""
        return self._publisher.episodes

    def observe(
        self, caption: Caption, worker: int, environment: int, episode: int, step: int, policy_version: int
    ) -> None:
        """Publish a caption on first sight and again after a minute; the common case is one look-up."""
        now = time.monotonic()
        due = self._due.get(caption.lookup)
        if due is None:
            due = self._first_sight(caption.lookup)
        elif now < due[0]:
            return
        due[0] = now + AGAIN_SECONDS
        record = CaptionObserved(
            text=caption.text,
            task=self._task,
            run=self._run,
            worker=worker,
            environment=environment,
            episode=episode,
            step=step,
            policy_version=policy_version,
            observed_at=time.time_ns() // 1000,
        )

        def lost() -> None:
            due[0] = time.monotonic() + AGAIN_AFTER_LOSS_SECONDS

        self._publisher.put(Outgoing(record, caption.id, len(caption.text) + _RECORD_OVERHEAD, lost))

    def episode_finished(self, record: EpisodeFinished) -> None:
        """Publish a finished episode."""
        size = len(record.actions) + _RECORD_OVERHEAD
        self._publisher.put(Outgoing(record, episode_key(record), size, _nothing))

    def attach(self) -> None:
        """One more environment uses this bus."""
        self._environments += 1

    def detach(self) -> None:
        """One fewer; the last one waits up to :data:`FLUSH_SECONDS` for what is on its way."""
        self._environments -= 1
        if self._environments == 0:
            self._publisher.flush(FLUSH_SECONDS)

    def flush(self, timeout: float) -> bool:
        """Wait until everything is published or dropped; False after ``timeout`` seconds."""
        return self._publisher.flush(timeout)

    def close(self, timeout: float = FLUSH_SECONDS) -> None:
        """Deliver what is on its way for up to ``timeout`` seconds, drop and count the rest."""
        self._publisher.close(timeout)

    def _first_sight(self, lookup: int) -> list[float]:
        metrics.CAPTIONS_NEW.inc()
        if len(self._due) >= TABLE_CAPTIONS:
            for old in list(islice(self._due, TABLE_CAPTIONS // 8)):
                del self._due[old]
        cell = self._due[lookup] = [0.0]
        return cell


def process_bus(settings: Settings, run: str, task: str) -> RolloutBus:
    """This process's bus for a run and task, made at the first call.

    A forked child gets a bus of its own: threads and sockets do not survive a fork.
    """
    key = (os.getpid(), run, task, settings.model_dump_json())
    bus = _buses.get(key)
    if bus is None:
        bus = _buses[key] = RolloutBus(settings, run, task)
        atexit.register(bus.close)
    return bus


_buses: dict[tuple[int, str, str, str], RolloutBus] = {}


def _nothing() -> None:
    """An episode that is lost stays lost: it is counted."""
