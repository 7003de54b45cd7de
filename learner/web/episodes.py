"""The recorded episodes that a site lists, and the pages that play them."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from onibus.consumers.labels.corrections import RUN_OF_REPEATS
from onibus.infra.errors import OnibusError
from onibus.infra.kafka import clients
from onibus.infra.kafka.codecs import codec_for, decoded_quietly
from onibus.infra.kafka.record_lookup import RecordLookup
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.run_names import check_run_name
from onibus.infra.settings import Settings
from onibus.learner.options import load_options
from onibus.learner.reporting.recorded_episodes import ending, reached
from onibus.learner.reporting.run_judge import CaptionJudge, RunJudge, not_judged
from onibus.schemas.codec import DecodeError
from onibus.schemas.ids import episode_key
from onibus.schemas.records import Annotation, CaptionObserved, EpisodeFinished

MOST_LISTED = 5_000
"""Episodes that are listed, those that ended last."""
_PAGES_KEPT = 8
_JUDGE_SECONDS = 60.0
_SEARCH_SECONDS = 8.0
_CLOCKS_DIFFER_MS = 60_000

Place = tuple[int, int]
"""Partition and offset on ``episodes``."""


@dataclass(frozen=True, slots=True)
class EpisodeRow:
    """What is listed of an episode; ``finished_at`` in microseconds since the epoch."""

    place: Place
    key: str
    run: str
    task: str
    extrinsic_return: float
    steps: int
    ended: str
    reached: str
    finished_at: int
    has_screen: bool

    @property
    def address(self) -> str:
        """Of the page that plays it."""
        return f"/episodes/{self.place[0]}/{self.place[1]}"

    @property
    def finished(self) -> str:
        """When, for people."""
        return f"{datetime.fromtimestamp(self.finished_at / 1e6, UTC):%Y-%m-%d %H:%M:%S}"


ORDERS = {
    "newest": lambda row: -row.finished_at,
    "best": lambda row: -row.extrinsic_return,
    "worst": lambda row: row.extrinsic_return,
    "longest": lambda row: -row.steps,
}


class EpisodeIndex:
    """The latest episodes, by key; one thread adds, any number look.

    Attributes:
        is_complete: whether all that are to be listed have been added once.
    """

    def __init__(self) -> None:
        self.is_complete = False
        self._rows: OrderedDict[str, EpisodeRow] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, place: Place, record: EpisodeFinished) -> None:
        """Add one; the one that was added first goes if there are too many."""
        key = episode_key(record).decode()
        row = EpisodeRow(
            place,
            key,
            record.run,
            record.task,
            record.extrinsic_return,
            record.steps,
            ending(record),
            reached(record),
            record.finished_at,
            not record.plugin,
        )
        with self._lock:
            self._rows[key] = row
            self._rows.move_to_end(key)
            if len(self._rows) > MOST_LISTED:
                self._rows.popitem(last=False)

    def get(self, key: str) -> EpisodeRow | None:
        """The one with this key, if it is among them."""
        return self._rows.get(key)

    def rows(self, run: str, text: str, order: str) -> list[EpisodeRow]:
        """Those of a run (empty: of any) whose task or ending has ``text`` in it."""
        with self._lock:
            found = list(self._rows.values())
        wanted = text.casefold()
        fitting = [
            row
            for row in found
            if (not run or row.run == run) and wanted in f"{row.task} {row.ended} {row.reached}".casefold()
        ]
        return sorted(fitting, key=ORDERS[order])

    def runs(self) -> list[str]:
        """Names of the runs that played them."""
        with self._lock:
            return sorted({row.run for row in self._rows.values()})


class Players:
    """Pages that play recorded episodes, made when they are asked for; the last few are kept."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._codec = settings, codec_for(settings)
        self._records = RecordLookup(settings, TopicNames(settings.topic_prefix).episodes)
        self._pages: OrderedDict[Place, str] = OrderedDict()
        self._judges: dict[str, tuple[float, CaptionJudge]] = {}
        self._lock = threading.Lock()

    def page(self, place: Place) -> str:
        """The page of the episode at a place.

        Raises:
            OnibusError: there is none, or it cannot be played again.
        """
        from onibus.learner.reporting.episode_players import player_of

        with self._lock:  # NetHack plays one game after the other
            if place not in self._pages:
                record = self._record(place)
                self._pages[place] = player_of(record, self._judge(record.run))
                if len(self._pages) > _PAGES_KEPT:
                    self._pages.popitem(last=False)
            return self._pages[place]

    def close(self) -> None:
        """Close the connection."""
        self._records.close()

    def _record(self, place: Place) -> EpisodeFinished:
        found = self._records.read([place]) if self._records.has(*place) else []
        if not found:
            raise OnibusError("this episode is no longer on the bus; episodes are kept for 30 days")
        try:
            return self._codec.decode(EpisodeFinished, found[0].value)
        except DecodeError as error:
            raise OnibusError(f"this episode cannot be read: {error}") from error

    def _judge(self, run: str) -> CaptionJudge:
        """The run's own, as of a minute ago at most; where that cannot be, captions have no rewards."""
        made, judge = self._judges.get(run, (0.0, not_judged))
        if time.monotonic() < made + _JUDGE_SECONDS and made:
            return judge
        try:
            folder = self._settings.runs_dir / check_run_name(run)
            judge = RunJudge(self._settings, load_options(folder), folder)
        except OnibusError:
            judge = not_judged
        self._judges = {run: (time.monotonic(), judge)}
        return judge


class EpisodeOfCaption:
    """Finds an episode in which a judged caption came up, by the caption record that led to the answer."""

    def __init__(self, settings: Settings, index: EpisodeIndex) -> None:
        self._settings, self._index, self._codec = settings, index, codec_for(settings)
        names = TopicNames(settings.topic_prefix)
        self._captions, self._episodes = RecordLookup(settings, names.captions), names.episodes

    def __call__(self, annotations: Sequence[Annotation]) -> str:
        """The address of its page, at the step of the caption.

        Raises:
            OnibusError: there is none.
        """
        why = "no answer names the record of a caption that led to it"
        for source in [source for one in reversed(annotations) for source in one.sources]:
            records = self._captions.read([(source.partition, source.offset)])
            observed = records and decoded_quietly(self._codec, CaptionObserved, records[0].value)
            if not observed or observed.run == RUN_OF_REPEATS:
                why = "the record of the caption that was judged is gone; captions are kept for seven days"
                continue
            key = f"{observed.run}/{observed.worker}/{observed.environment}/{observed.episode}"
            row = self._index.get(key)
            place = row.place if row is not None else self._search(key, observed.observed_at // 1000)
            if place is not None:
                return f"/episodes/{place[0]}/{place[1]}#{observed.step}"
            why = f"episode {key} is not recorded: it has not ended, or its record is gone"
        raise OnibusError(why)

    def close(self) -> None:
        """Close the connection."""
        self._captions.close()

    def _search(self, key: str, since_ms: int) -> Place | None:
        """An episode that is not listed, on the topic from a time on; given up after some seconds."""
        with clients.consumer(self._settings, max_poll_records=2_000) as reader:
            try:
                partitions = clients.partitions_of(reader, self._episodes)
                return _find(reader, partitions, key.encode(), since_ms - _CLOCKS_DIFFER_MS)
            except KafkaError as error:
                raise OnibusError(
                    f"the episodes cannot be read: {error}; check that the brokers are up"
                ) from error


def _find(reader: KafkaConsumer, partitions: list[TopicPartition], key: bytes, since_ms: int) -> Place | None:
    ends = reader.end_offsets(partitions)
    starts = reader.offsets_for_times(dict.fromkeys(partitions, since_ms))
    reader.assign(partitions)
    for partition in partitions:
        first = starts[partition]
        reader.seek(partition, ends[partition] if first is None else first.offset)
    deadline = time.monotonic() + _SEARCH_SECONDS
    while time.monotonic() < deadline and any(reader.position(p) < ends[p] for p in partitions):
        for partition, records in reader.poll(timeout_ms=200).items():
            for record in records:
                if record.key == key:
                    return partition.partition, record.offset
    return None
