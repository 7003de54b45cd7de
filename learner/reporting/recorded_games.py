"""The games of a run that is learning, played again at a speed for the eye as soon as they were recorded."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kafka import KafkaConsumer
from kafka.errors import KafkaError

from onibus.infra.demo.game import LEAST_SHOWN, GameMoment, SaidOfCaption
from onibus.infra.errors import OnibusError
from onibus.infra.kafka import clients
from onibus.infra.kafka.codecs import codec_for, decoded_quietly
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.settings import Settings
from onibus.learner.options import load_options
from onibus.producers.nethack.playback import Frame, frames
from onibus.schemas.records import EpisodeFinished

if TYPE_CHECKING:
    from onibus.learner.reporting.run_judge import CaptionJudge

log = logging.getLogger(__name__)

STEPS_PER_SECOND = 8.0
LONGEST_SECONDS = 60.0
"""A game takes no longer than this: long ones are played faster."""
_KEPT = 50
_POLL_MS = 500
_LOOK_SECONDS = 0.25
_RETRY_SECONDS = 2.0
_STOP_SECONDS = 3.0
_SHARE_OF_TIME = 0.05
"""Labels and models are read again for a new game if that takes no more of the time than this."""


@dataclass(frozen=True, slots=True)
class _Game:
    record: EpisodeFinished
    judge: CaptionJudge | None


class RecordedGames:
    """Follows the recorded episodes of a run; see :class:`onibus.infra.demo.game.GameFeed`.

    A thread reads one when it is wanted, and what it is judged by; :meth:`moment`, for one thread, plays it
    again, and when that is over the next one that ends.
    """

    def __init__(self, settings: Settings, run: str, now: Callable[[], float] = time.monotonic) -> None:
        self._settings, self._run, self._now = settings, run, now
        self._newest: _Game | None = None
        self._captions: deque[SaidOfCaption] = deque(maxlen=_KEPT)
        self._playing: Iterator[GameMoment] = iter(())
        self._shown: GameMoment | None = None
        self._began = 0.0
        self._step, self._speed = 0, STEPS_PER_SECOND
        self._judge: CaptionJudge | None = None
        self._judge_again_at = 0.0
        self._wanted, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._follow, name="recorded-games", daemon=True)

    def start(self) -> None:
        """See Games."""
        self._thread.start()

    def stop(self) -> None:
        """See Games."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_SECONDS)

    def moment(self) -> GameMoment | None:
        """See Games."""
        due = int((self._now() - self._began) * self._speed)
        while self._step <= due:
            if (shown := self._next()) is not None:
                self._step, self._shown = self._step + 1, shown
            elif self._begin():
                due = 0
            else:
                break
        return self._shown

    def _next(self) -> GameMoment | None:
        """The next moment of the game that is played; None at its end."""
        try:
            return next(self._playing, None)
        except OnibusError as error:  # another game than was recorded
            log.warning("a game cannot be shown to its end: %s", error)
            return None

    def _begin(self) -> bool:
        """Begin with the game that was read last; whether there is one."""
        game, self._newest = self._newest, None
        if game is None:
            self._wanted.set()
            return False
        self._playing = self._moments(game)
        self._began, self._step = self._now(), 0
        self._speed = max(STEPS_PER_SECOND, game.record.steps / LONGEST_SECONDS)
        return True

    def _moments(self, game: _Game) -> Iterator[GameMoment]:
        record, total, seen = game.record, 0.0, None
        for frame in frames(record):
            self._hear(frame, game.judge)
            total += frame.extrinsic
            if seen is None or frame.step < record.steps:  # the last screen is what NetHack leaves behind
                seen = frame
            yield GameMoment(
                f"worker {record.worker}, environment {record.environment}, episode {record.episode}, "
                f"step {frame.step:,} of {record.steps:,}, return {total:.2f}",
                seen.characters,
                seen.colours,
                seen.cursor,
                tuple(self._captions),
            )

    def _hear(self, frame: Frame, judge: CaptionJudge | None) -> None:
        """A caption when it comes up first in its game, or is paid for again."""
        if frame.caption is None:
            return
        verdict, reward = ("", 0.0) if judge is None else judge(frame.caption, frame.count)
        if frame.count == 1 or abs(reward) >= LEAST_SHOWN:
            self._captions.append(SaidOfCaption(frame.caption, verdict, reward))

    def _follow(self) -> None:
        while not self._stopping.is_set():
            try:
                with clients.consumer(self._settings) as reader:
                    self._read(reader)
            except (KafkaError, OnibusError) as error:
                log.debug("games cannot be followed now: %s", error)
            self._stopping.wait(_RETRY_SECONDS)

    def _read(self, reader: KafkaConsumer) -> None:
        """Whenever a game is wanted, take the next one that ends; between them nothing is read."""
        codec, ours = codec_for(self._settings), f"{self._run}/".encode()
        partitions = clients.partitions_of(reader, TopicNames(self._settings.topic_prefix).episodes)
        reader.assign(partitions)
        while not self._stopping.is_set():
            if not self._wanted.wait(_LOOK_SECONDS):
                continue
            reader.seek_to_end(*partitions)
            while self._wanted.is_set() and not self._stopping.is_set():
                batches = reader.poll(timeout_ms=_POLL_MS).values()
                found = [r for batch in batches for r in batch if (r.key or b"").startswith(ours)]
                record = decoded_quietly(codec, EpisodeFinished, found[-1].value) if found else None
                if record is not None and not record.plugin:  # it has a screen
                    self._wanted.clear()
                    self._newest = _Game(record, self._judge_now())

    def _judge_now(self) -> CaptionJudge | None:
        """The run's judge by the labels and models of now; of a while ago where reading them takes long."""
        import torch

        from onibus.learner.reporting.run_judge import RunJudge

        torch.set_num_threads(1)  # single captions: more would only get in the way of the learner
        began = time.monotonic()
        if began >= self._judge_again_at:
            folder: Path = self._settings.runs_dir / self._run
            try:
                self._judge = RunJudge(self._settings, load_options(folder), folder)
            except OnibusError as error:
                log.debug("games are shown without rewards: %s", error)
            ended = time.monotonic()
            self._judge_again_at = ended + (ended - began) / _SHARE_OF_TIME
        return self._judge
