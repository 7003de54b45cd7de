"""What a running system does, kept up to date by one thread, so that pages never wait for the cluster."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import KafkaError

from onibus.consumers.dead_letters import REDRIVE
from onibus.consumers.specs.known_specs import KnownSpecs
from onibus.consumers.status import GroupStatus, group_statuses
from onibus.infra.errors import OnibusError
from onibus.infra.kafka import clients
from onibus.infra.kafka.codecs import codec_for
from onibus.infra.kafka.lasting_failure import LastingFailure
from onibus.infra.kafka.topics import TopicNames, topic_table
from onibus.infra.settings import Settings
from onibus.learner.web.earned import EarnedInRuns
from onibus.learner.web.episodes import MOST_LISTED, EpisodeIndex, Place
from onibus.schemas.codec import DecodeError
from onibus.schemas.records import DeadLetter, EpisodeFinished, RewardUpdate

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
RATE_SECONDS = 30.0
_EARNED_SECONDS = 30.0
_POLL_MS = 200
_POLLS = 20
"""Of the topics that are followed, between two looks: a long one is caught up with step by step."""
_STOP_SECONDS = 5.0
_PLAIN_TOPICS = ("captions", "episodes")
"""Those that are neither compacted nor written in transactions, except when dead letters are sent again."""
_PATIENCE_MS = 10_000


@dataclass(frozen=True, slots=True)
class TopicFigures:
    """Offsets of a topic and how many came per second lately.

    Marks of transactions and what compaction removed count, too: only without them are these records.
    """

    records: int
    per_second: float | None


@dataclass(frozen=True, slots=True)
class SystemView:
    """The cluster as it was when it was last looked at.

    Attributes:
        topics: by name without the prefix. models: the newest version of each, by name.
        dead_letters: that wait, of those written last.
        problem: why it has not been possible to look at it for a while; None otherwise.
        at: when it was looked at last, by ``time.monotonic``.
    """

    topics: dict[str, TopicFigures] = field(default_factory=dict)
    groups: list[GroupStatus] = field(default_factory=list)
    models: dict[str, RewardUpdate] = field(default_factory=dict)
    dead_letters: int = 0
    problem: str | None = None
    at: float = field(default_factory=time.monotonic)


class SystemWatch:
    """Looks at the cluster every two seconds.

    Args:
        on_specs: called with the announced specs, whenever one is announced.

    Attributes:
        view: what was seen last.
    """

    def __init__(
        self,
        settings: Settings,
        episodes: EpisodeIndex,
        earned: EarnedInRuns,
        on_specs: Callable[[KnownSpecs], None],
    ) -> None:
        self._settings, self._episodes, self._earned, self._on_specs = settings, episodes, earned, on_specs
        self._names, self._codec = TopicNames(settings.topic_prefix), codec_for(settings)
        self.view = SystemView()
        self._ends: deque[tuple[float, dict[str, int]]] = deque()
        self._models: dict[str, RewardUpdate] = {}
        self._letters: set[Place] = set()
        self._specs_end = -1
        self._earned_at = 0.0
        self._stopping = threading.Event()
        self._failure = LastingFailure(settings, log, "the cluster could not be looked at")
        self._thread = threading.Thread(target=self._watch, name="system-watch", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """End looking."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_SECONDS)

    def _watch(self) -> None:
        while not self._stopping.is_set():
            try:
                with (
                    clients.consumer(self._settings, max_poll_records=500) as reader,
                    clients.admin(self._settings) as admin,
                ):
                    self._look_on(reader, admin)
            except (KafkaError, OnibusError) as error:
                self._failure.failed(error)
                self.view = replace(self.view, problem=self._failure.reason)
            self._stopping.wait(LOOK_SECONDS)

    def _look_on(self, reader: KafkaConsumer, admin: KafkaAdminClient) -> None:
        topics = [topic.name for topic in topic_table(self._settings)]
        of = {t: [TopicPartition(t, n) for n in reader.partitions_for_topic(t) or ()] for t in topics}
        partitions = [partition for found in of.values() for partition in found]
        followed = (self._names.episodes, self._names.reward_updates, self._names.dead_letters)
        self._follow(reader, [partition for topic in followed for partition in of[topic]])
        while not self._stopping.is_set():
            starts, ends = _bounds(reader, partitions)
            self._read(reader, ends)
            now = time.monotonic()
            counts = {t: sum(ends[p] for p in of[t]) for t in topics}
            self._ends.append((now, counts))
            while self._ends[0][0] < now - RATE_SECONDS:
                self._ends.popleft()
            self._look_beside(counts, now)
            self.view = SystemView(
                {
                    t.removeprefix(self._settings.topic_prefix): TopicFigures(
                        sum(ends[p] - starts[p] for p in of[t]), self._rate(t)
                    )
                    for t in topics
                },
                group_statuses(self._settings, reader, admin, self._names.captions),
                dict(self._models),
                len(self._letters),
            )
            self._failure.passed()
            self._stopping.wait(LOOK_SECONDS)

    def _rate(self, topic: str) -> float | None:
        (then, before), (now, counts) = self._ends[0], self._ends[-1]
        seconds = now - then
        return None if seconds < LOOK_SECONDS / 2 else max(0.0, (counts[topic] - before[topic]) / seconds)

    def _look_beside(self, counts: dict[str, int], now: float) -> None:
        """Specs that were announced, and what the runs' captions earned."""
        if counts[self._names.annotation_specs] != self._specs_end:
            self._specs_end = counts[self._names.annotation_specs]
            self._on_specs(KnownSpecs.read(self._settings))
        if now >= self._earned_at:
            self._earned_at = now + _EARNED_SECONDS
            self._earned.look()

    def _follow(self, reader: KafkaConsumer, partitions: list[TopicPartition]) -> None:
        """Versions from the first one on; of episodes and dead letters only as many as are listed."""
        self._letters.clear()
        starts, ends = _bounds(reader, partitions)
        reader.assign(partitions)
        for partition in partitions:
            is_all = partition.topic == self._names.reward_updates
            first = starts[partition] if is_all else max(starts[partition], ends[partition] - MOST_LISTED)
            reader.seek(partition, first)

    def _read(self, reader: KafkaConsumer, ends: dict[TopicPartition, int]) -> None:
        for _ in range(_POLLS):
            if self._stopping.is_set():
                return
            if all(reader.position(p) >= ends[p] for p in reader.assignment()):
                self._episodes.is_complete = True
                return
            for records in reader.poll(timeout_ms=_POLL_MS).values():
                for record in records:
                    self._take(record)

    def _take(self, record: ConsumerRecord) -> None:
        try:
            if record.topic == self._names.episodes:
                place = record.partition, record.offset
                self._episodes.add(place, self._codec.decode(EpisodeFinished, record.value))
            elif record.topic == self._names.dead_letters:
                self._count(record, self._codec.decode(DeadLetter, record.value))
            else:
                update = self._codec.decode(RewardUpdate, record.value)
                self._models[update.model] = update
        except DecodeError:
            pass  # readers of the topic count and report it

    def _count(self, record: ConsumerRecord, letter: DeadLetter) -> None:
        if letter.component == REDRIVE and letter.source_topic == record.topic:
            self._letters.discard((letter.source_partition, letter.source_offset))
        else:
            self._letters.add((record.partition, record.offset))


def _bounds(
    reader: KafkaConsumer, partitions: list[TopicPartition]
) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
    """First and end offsets."""
    return (
        reader.beginning_offsets(partitions, timeout_ms=_PATIENCE_MS),
        reader.end_offsets(partitions, timeout_ms=_PATIENCE_MS),
    )


def flow_json(view: SystemView) -> dict[str, Any]:
    """Topics of which offsets are records, groups and models as JSON."""
    now = time.time()
    return {
        "problem": view.problem,
        "age_seconds": time.monotonic() - view.at,
        "dead_letters": view.dead_letters,
        "topics": {
            name: {"records": topic.records, "per_second": topic.per_second}
            for name in _PLAIN_TOPICS
            if (topic := view.topics.get(name)) is not None
        },
        "groups": [
            {name: getattr(group, name) for name in ("group", "state", "members", "behind", "is_stopped")}
            for group in view.groups
        ],
        "models": [
            {"model": u.model, "version": u.version, "age_seconds": now - u.trained_at / 1e6}
            for u in view.models.values()
        ],
    }
