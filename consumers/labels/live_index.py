"""All labels in memory, newest first, for fast queries while the log grows."""

from __future__ import annotations

import logging
import threading
from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from heapq import nsmallest
from itertools import islice
from typing import Any

from kafka.errors import KafkaError

from onibus.consumers.labels.agreement import cohens_kappa
from onibus.consumers.labels.annotation_log_reader import AnnotationReader, LoggedAnnotation
from onibus.consumers.labels.filter import LabelFilter
from onibus.consumers.labels.fold import FoldedLabel, LabelFold
from onibus.infra.errors import OnibusError
from onibus.infra.kafka.lasting_failure import LastingFailure
from onibus.infra.settings import Settings
from onibus.schemas.verdict_in_force import verdict_name, verdict_names

_log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.25
_RETRY_SECONDS = 1.0
_STOP_SECONDS = 3.0
"""How long a stop waits for the thread, which may be waiting for a cluster that is away."""
_RECORDS_AT_A_TIME = 1_000

Rank = Callable[[FoldedLabel], Any]
"""Of a label a value that can be compared with another's."""


@dataclass(frozen=True, slots=True)
class LabelPage:
    """Some of the labels that match a filter, in the order that was asked for.

    Attributes:
        total: number of all that match.
        verdicts: their number by verdict, without zeros.
    """

    labels: list[FoldedLabel]
    total: int
    verdicts: dict[str, int]


@dataclass(frozen=True, slots=True)
class PeopleAgreement:
    """How far annotators agree with people on what both judged; None if undefined."""

    count: int
    agreement: float | None
    kappa: float | None


class LabelBoard:
    """A fold of the annotation log that one thread feeds and any number query.

    It also has the positions of each subject's annotations on the log, 16 bytes each and 100 per subject.

    Args:
        most: subjects that it holds; of more, those that came up first are forgotten. None: all.

    Attributes:
        forgotten: how many these are.
        is_complete: whether the log has been read to its end once.
    """

    def __init__(self, most: int | None = None) -> None:
        self._most, self.forgotten = most, 0
        self.is_complete = False
        self._fold = LabelFold()
        self._places: dict[bytes, array[int]] = {}
        self._sorted: list[FoldedLabel] | None = None
        self._lock = threading.Lock()

    def apply(self, logged: Iterable[LoggedAnnotation]) -> None:
        """Apply records."""
        with self._lock:
            for one in logged:
                self._fold.apply(one)
                if one.annotation is not None:
                    places = self._places.setdefault(one.annotation.subject_id, array("q"))
                    places.extend((one.partition, one.offset))
            self._forget_oldest()
            self._sorted = None

    def _forget_oldest(self) -> None:
        """A tenth at a time: it copies what stays."""
        if self._most is None or len(self._fold) <= self._most + self._most // 10:
            return
        gone = self._fold.forget_oldest(self._most)
        self.forgotten += len(gone)
        kept = {label.subject_id for label in self._fold}
        for subject_id in gone:
            if subject_id not in kept:  # under another spec
                self._places.pop(subject_id, None)

    def fresh(self) -> LabelBoard:
        """An empty one of the same kind."""
        return LabelBoard(self._most)

    def become(self, other: LabelBoard) -> None:
        """Hold what ``other`` holds, which is not to be used any more."""
        with self._lock:
            self._fold, self._places, self._sorted = other._fold, other._places, None
            self.forgotten, self.is_complete = other.forgotten, other.is_complete

    @property
    def annotations(self) -> int:
        """Number of all that were applied."""
        return self._fold.annotations

    def page(self, wanted: LabelFilter, start: int, most: int, first: Rank | None = None) -> LabelPage:
        """Up to ``most`` matching labels, from the ``start``-th on, the newest first.

        Args:
            first: those first of which it returns the least; of the same, the newest.
        """
        fitting = [label for label in self._newest_first() if wanted.matches(label)]
        ordered = fitting if first is None else nsmallest(start + most, fitting, key=first)
        found = Counter(verdict_name(label.verdict) for label in fitting)
        verdicts = {name: found[name] for name in verdict_names() if name in found}
        return LabelPage(ordered[start : start + most], len(fitting), verdicts)

    def get(self, spec_id: bytes, subject_id: bytes) -> FoldedLabel | None:
        """One label."""
        with self._lock:
            return self._fold.get(spec_id, subject_id)

    def places(self, subject_id: bytes) -> list[tuple[int, int]]:
        """Partition and offset of every annotation of a subject, under any spec; empty if there is none."""
        with self._lock:
            flat = self._places.get(subject_id, array("q")).tolist()
        return list(zip(flat[::2], flat[1::2], strict=True))

    def count_by_spec(self) -> Counter[bytes]:
        """Labels in force by spec id."""
        return Counter(label.spec_id for label in self._newest_first() if label.verdict is not None)

    def agreement(self) -> PeopleAgreement:
        """Agreement of annotators with people, over all specs."""
        both = [
            (label.verdict.value, label.by_annotators.value)
            for label in self._newest_first()
            if label.by_person and label.verdict is not None and label.by_annotators is not None
        ]
        if not both:
            return PeopleAgreement(0, None, None)
        agreed = sum(person == annotator for person, annotator in both) / len(both)
        return PeopleAgreement(len(both), agreed, cohens_kappa([p for p, _ in both], [a for _, a in both]))

    def _newest_first(self) -> list[FoldedLabel]:
        with self._lock:
            if self._sorted is None:
                self._sorted = sorted(self._fold, key=lambda label: (-label.annotated_at, label.subject_id))
            return self._sorted


def by_certainty(label: FoldedLabel) -> float:
    """From 0, a probability of one half, to 0.5; more for a label without probability."""
    return 1.0 if label.probability is None else abs(label.probability - 0.5)


def by_disagreement(label: FoldedLabel) -> tuple[bool, float]:
    """Where a person says something else than annotators comes first; then by the share of other answers."""
    by_both = label.by_person and label.by_annotators is not None
    return not (by_both and label.by_annotators is not label.verdict), -label.differing / label.annotations


class BoardFeed:
    """Feeds a board from the annotation log: :meth:`load` it, then :meth:`start` to follow.

    While the cluster is away the board stays as it is. A log that was cut, restored or created anew is read
    again from its beginning.
    """

    def __init__(self, settings: Settings, board: LabelBoard) -> None:
        self._settings, self._board = settings, board
        self._reader = self._new_reader()
        self._failure = LastingFailure(settings, _log, "the annotation log could not be followed")
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="board-feed", daemon=True)

    def load(self) -> None:
        """Read everything that is on the log.

        Raises:
            OnibusError: the log is incomplete, or the cluster cannot be reached.
        """
        _take(self._reader, self._reader.ends, self._board)

    def start(self) -> None:
        """Follow the log in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """End following and close the connection."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=_STOP_SECONDS)
        self._reader.close()

    def _follow(self) -> None:
        while not self._stopping.wait(_RETRY_SECONDS if self._failure.is_on else _LOOK_SECONDS):
            try:
                self._go_on()
            except (KafkaError, OnibusError) as error:
                self._failure.failed(error)
            else:
                self._failure.passed()

    def _go_on(self) -> None:
        if not self._failure.is_on:
            _take(self._reader, self._reader.latest(), self._board)
            return
        reader, board = self._new_reader(), self._board.fresh()
        try:
            _take(reader, reader.ends, board)
        except BaseException:
            reader.close()
            raise
        self._board.become(board)
        self._reader.close()
        self._reader = reader

    def _new_reader(self) -> AnnotationReader:
        return AnnotationReader(self._settings)


def _take(reader: AnnotationReader, until: dict[int, int], board: LabelBoard) -> None:
    """Read the log up to its end into a board."""
    records = reader.read(until)
    while part := list(islice(records, _RECORDS_AT_A_TIME)):
        board.apply(part)
    board.is_complete = True
