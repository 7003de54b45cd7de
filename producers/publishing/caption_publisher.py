"""What one rollout process says to the bus: captions that are new to it, and finished episodes."""

from __future__ import annotations

import atexit
import os
import time
from functools import partial
from pathlib import Path

from onibus.infra.files import SideFile
from onibus.infra.observability import metrics
from onibus.infra.settings import Settings
from onibus.producers.publishing.caption import TABLE_CAPTIONS, Caption, make_room
from onibus.producers.publishing.caption_notes import Note, NotesWriter
from onibus.producers.publishing.kafka_sender import Publisher
from onibus.producers.publishing.outbox import Outgoing
from onibus.schemas.ids import episode_key
from onibus.schemas.records import CaptionObserved, EpisodeFinished

AGAIN_SECONDS = 60.0
"""A caption that is seen again is published again after this time, so that nothing important stays lost."""
AGAIN_AFTER_LOSS_SECONDS = 2.0
"""And sooner if its record was dropped."""
NEW_PATIENCE_SECONDS = 0.25
"""New captions leave at once after a quiet time, else together after this: labels are wanted soon."""
PATIENCE_SECONDS = 3.0
"""Captions seen again and episodes wait longer for company: no one waits for them."""
FLUSH_SECONDS = 3.0
"""How long the last environment's close waits for delivery: with all else a stop must not take 10 s."""
CLOSE_SECONDS = 1.0
"""And the close of the bus itself."""

_RECORD_OVERHEAD = 500
"""Bytes that a queued record takes besides its text or actions, about."""


class RepeatFilter:
    """Which captions are due: on first sight, and again when they are seen after ``AGAIN_SECONDS``.

    Bounded by ``limit`` captions; the oldest make room and count as new when they come back.
    """

    def __init__(self, limit: int = TABLE_CAPTIONS) -> None:
        self._limit = limit
        self._due: dict[int, list[float]] = {}

    def turn(self, lookup: int, now: float) -> tuple[list[float], bool] | None:
        """None if the caption is not due, else the cell that holds when it will be, and whether it is new.

        A cell outlives its caption's place here, so that a late failure can be noted in it.

        Args:
            lookup: the caption's look-up id.
            now: seconds on a clock that never goes back.
        """
        cell = self._due.get(lookup)
        if is_new := cell is None:
            cell = self._first_sight(lookup)
        elif now < cell[0]:
            return None
        cell[0] = now + AGAIN_SECONDS
        return cell, is_new

    def _first_sight(self, lookup: int) -> list[float]:
        make_room(self._due, self._limit)
        cell = self._due[lookup] = [0.0]
        return cell


class RolloutBus:
    """Captions and episodes of one process on their way to Kafka. No method waits, but flush and close.

    Args:
        notes: folder in which each caption that is published is also written down, for the run's learner.

    Attributes:
        captions, episodes: published and dropped so far.
    """

    def __init__(self, settings: Settings, run: str, task: str, notes: Path | None = None) -> None:
        self._run, self._task, self._notes_folder = run, task, notes
        self._notes: NotesWriter | None = None
        self._notes_file = SideFile(f"{notes}")
        self._publisher = Publisher(settings)
        self.captions, self.episodes = self._publisher.captions, self._publisher.episodes
        self._filter = RepeatFilter()
        self._environments = 0

    def observe(
        self, caption: Caption, worker: int, environment: int, episode: int, step: int, policy_version: int
    ) -> None:
        """Publish a caption if it is new or due again; in the common case this is one look-up."""
        turn = self._filter.turn(caption.lookup, time.monotonic())
        if turn is None:
            return
        cell, is_new = turn
        if is_new:
            metrics.CAPTIONS_NEW.inc()
        observed_at = time.time_ns() // 1000
        if self._notes_folder is not None:
            self._note(Note(caption.lookup, caption.text, observed_at), self._notes_folder, worker)
        record = CaptionObserved(
            text=caption.text,
            task=self._task,
            run=self._run,
            worker=worker,
            environment=environment,
            episode=episode,
            step=step,
            policy_version=policy_version,
            observed_at=observed_at,
            captioner=caption.captioner,
        )

        def lost() -> None:
            cell[0] = time.monotonic() + AGAIN_AFTER_LOSS_SECONDS

        size = len(caption.text) + _RECORD_OVERHEAD
        patience = NEW_PATIENCE_SECONDS if is_new else PATIENCE_SECONDS
        self._publisher.put(Outgoing(record, caption.id, size, patience, lost))

    def episode_finished(self, record: EpisodeFinished) -> None:
        """Publish a finished episode."""
        size = len(record.actions) + _RECORD_OVERHEAD
        self._publisher.put(Outgoing(record, episode_key(record), size, PATIENCE_SECONDS, _nothing))

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

    def close(self, timeout: float = CLOSE_SECONDS) -> None:
        """Deliver what is on its way for up to ``timeout`` seconds, drop and count the rest."""
        self._publisher.close(timeout)
        if self._notes is not None:
            self._notes.close()

    def _note(self, note: Note, folder: Path, worker: int) -> None:
        """Write a caption down; the file is named by the first worker of the process."""
        if self._notes is None:
            self._notes = NotesWriter(folder / f"worker-{worker}")
        self._notes_file.attempt(partial(self._notes.write, note))


def process_bus(settings: Settings, run: str, task: str, notes: Path | None = None) -> RolloutBus:
    """This process's bus for a run and task, made at the first call.

    A forked child gets a bus of its own: threads and sockets do not survive a fork.
    """
    key = (os.getpid(), run, task, settings)
    if key not in _buses:
        _buses[key] = RolloutBus(settings, run, task, notes)
    return _buses[key]


_buses: dict[tuple[int, str, str, Settings], RolloutBus] = {}


@atexit.register
def close_process_buses() -> None:
    """Close and forget this process's buses; also done at its end."""
    for key in [key for key in _buses if key[0] == os.getpid()]:
        _buses.pop(key).close()


def _nothing() -> None:
    """An episode that is lost stays lost: it is counted."""
