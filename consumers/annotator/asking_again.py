"""Which captions are asked about again (``onibus annotate --ask-again``), and what their answers come to.

Further answers are owed to no one: a caption has its label, and it is asked about again only where there is
time for it. So nothing is kept but what the log of answers says, and after a restart it says the same.
Captions whose verdict is ``unsure`` come first, then those that matter most: how often a caption came again
since its label, times how far its answers and the spec's reward model are apart. A caption that did not come
again is left alone, and so is one that a person has judged.
"""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from onibus.consumers.annotator.batch import Subject
from onibus.consumers.annotator.pending import PendingCaption
from onibus.consumers.language_models.base import Answer
from onibus.consumers.specs.majority import can_change, counted, majority, share_of_yes
from onibus.schemas import ids
from onibus.schemas.records import Annotation, Origin, Verdict
from onibus.schemas.verdict_in_force import is_by_person

MOST_SUBJECTS = 50_000
"""Captions and pairs whose answers are counted; further ones are not asked again. A kilobyte each."""
_EVERY_SECONDS = 1.0
"""How often it is reckoned what matters most."""
_SCORED = 512
"""Those that came most often, which alone a reward model scores for that."""
_UNKNOWN = 0.5
"""Distance of answers and reward model while there is no model."""

Probabilities = Callable[[bytes, Sequence[tuple[str, ...]]], "NDArray[np.float64] | None"]
"""Of a yes under a spec's reward model, for subjects given by their texts; None while there is no model."""


@dataclass(slots=True)
class Tally:
    """The answers about one subject.

    Attributes:
        said: what each answer said, in the order of the log; ``unsure`` where it could not be read.
        by_person: whether a person has judged it.
        awaited: annotations that we have asked for or written and that have not come from the log yet.
    """

    partition: int
    subject: Subject
    caption: PendingCaption
    said: list[Verdict] = field(default_factory=list)
    by_person: bool = False
    awaited: int = 0

    @property
    def share(self) -> float:
        """The share of the answers that say yes."""
        return share_of_yes(self.said)

    @property
    def verdict(self) -> Verdict:
        """What most answers say; ``unsure`` where as many say something else."""
        return majority(self.said)

    def is_open(self, answers: int) -> bool:
        """Whether there are fewer answers than that, and further ones can change the verdict."""
        return bool(self.said) and not self.by_person and can_change(self.said, answers - len(self.said))


class AskingAgain:
    """Counts answers and returns of captions, by partition.

    Args:
        most: how often to ask further about each caption or pair.
        judges: who answer each time.
    """

    def __init__(self, most: int, judges: int = 1) -> None:
        self._answers = (most + 1) * judges
        self._tallies: dict[int, dict[tuple[bytes, bytes], Tally]] = {}
        self._open: dict[int, dict[tuple[bytes, bytes], bool]] = {}  # whether the verdict is unsure
        self._returns: dict[int, Counter[bytes]] = {}
        self._complete: set[int] = set()
        self._taken: dict[tuple[bytes, bytes], int] = {}
        self._due = 0.0
        self.beginnings: dict[int, int] = {}
        self.probabilities: Probabilities | None = None

    @property
    def taken(self) -> int:
        """Subjects that are asked about again and not written yet."""
        return len(self._taken)

    def begin(self, partition: int) -> None:
        """Own a partition, whose log of answers is to be read from its beginning."""
        self.beginnings[partition] = self.beginnings.get(partition, 0) + 1
        self._tallies[partition], self._open[partition], self._returns[partition] = {}, {}, Counter()
        self._complete.discard(partition)

    def end(self, partition: int) -> None:
        """Own a partition no longer."""
        del self._tallies[partition], self._open[partition], self._returns[partition]
        self._complete.discard(partition)
        self._taken = {key: number for key, number in self._taken.items() if number != partition}

    @property
    def partitions(self) -> list[int]:
        """The partitions that are owned."""
        return list(self._tallies)

    def is_complete(self, partition: int) -> None:
        """Everything that stood on the log of answers when the partition was begun has been read."""
        self._complete.add(partition)

    def came_again(self, partition: int, caption_ids: Iterable[bytes]) -> None:
        """Captions of these ids, which have labels, were published."""
        returns = self._returns[partition]
        returns.update(caption_ids)
        if len(returns) > MOST_SUBJECTS:
            self._returns[partition] = Counter(dict(returns.most_common(MOST_SUBJECTS // 2)))

    def apply(self, partition: int, annotation: Annotation) -> None:
        """Take over the next annotation of a partition that is owned."""
        tallies = self._tallies[partition]
        key = annotation.spec_id, annotation.subject_id
        tally = tallies.get(key)
        if annotation.origin is Origin.WITHDRAWAL:
            tallies.pop(key, None)
            self._open[partition].pop(key, None)
            return
        if tally is None:
            if sum(map(len, self._tallies.values())) >= MOST_SUBJECTS:
                return
            tally = tallies[key] = _tally(partition, annotation)
        _count(tally, annotation)
        if tally.is_open(self._answers):
            self._open[partition][key] = tally.verdict is Verdict.UNSURE
        else:
            self._open[partition].pop(key, None)

    def choose(self, most: int) -> list[Tally]:
        """Up to ``most`` subjects to ask about again now, what matters most first; once a second at most."""
        if time.monotonic() < self._due or most <= 0:
            return []
        self._due = time.monotonic() + _EVERY_SECONDS
        worth = [
            (tally, returns)
            for partition in self._complete
            for key, is_unsure in self._open[partition].items()
            if key not in self._taken
            and not (tally := self._tallies[partition][key]).awaited
            and (returns := self._returns[partition][tally.caption.caption_id] + is_unsure)
        ]
        weighed = self._weighed(heapq.nlargest(_SCORED, worth, key=lambda one: one[1]))
        chosen = [tally for tally, _ in heapq.nlargest(most, weighed, key=lambda one: one[1])]
        for tally in chosen:
            self._taken[tally.subject.key] = tally.partition
        return chosen

    def written(self, tally: Tally, annotations: int) -> None:
        """So many annotations of this subject are being written; it is not chosen before they are read."""
        tally.awaited = annotations

    def settle(self, tally: Tally) -> None:
        """A subject that was chosen is written, or will not be."""
        self._taken.pop(tally.subject.key, None)

    def _weighed(self, found: Sequence[tuple[Tally, int]]) -> list[tuple[Tally, float]]:
        """With the number of returns times the distance of answers and model; infinite for ``unsure``."""
        by_spec: dict[bytes, list[tuple[Tally, int]]] = {}
        for one in found:
            by_spec.setdefault(one[0].subject.spec_id, []).append(one)
        weighed: list[tuple[Tally, float]] = []
        for spec_id, those in by_spec.items():
            texts = [tally.subject.texts for tally, _ in those]
            believed = None if self.probabilities is None else self.probabilities(spec_id, texts)
            for place, (tally, returns) in enumerate(those):
                distance = _UNKNOWN if believed is None else abs(float(believed[place]) - tally.share)
                is_unsure = tally.verdict is Verdict.UNSURE
                weighed.append((tally, float("inf") if is_unsure else returns * distance))
        return weighed


def decided(answer: Answer, earlier: Sequence[Verdict] = ()) -> Answer:
    """An answer with the verdict that it comes to with earlier ones, or that its judges come to.

    What each said itself stands beside. The newest annotation of a subject is the one in force, so every
    annotation of this answer says the same. A single judge's only answer is left as it is.
    """
    own = answer.votes
    said = [*earlier, *own]
    if not earlier and not any(attempt.judge for attempt in answer.attempts):
        return answer
    verdict, share = majority(said), share_of_yes(said)
    told = tuple(
        replace(
            attempt,
            verdict=verdict,
            said=attempt.verdict or Verdict.UNSURE,
            probability=share,
            reason=f"{len(said)} answers: {counted(said)}; {attempt.reason}".rstrip("; "),
        )
        for attempt in answer.attempts_or_reason()
    )
    return replace(answer, verdict=verdict, attempts=told)


def _count(tally: Tally, annotation: Annotation) -> None:
    if is_by_person(annotation):
        tally.by_person = True
        return
    tally.awaited = max(0, tally.awaited - 1)
    said = annotation.said or annotation.verdict or Verdict.UNSURE
    if annotation.attempt > 1 and tally.said:  # one question: the answer before could not be read
        tally.said[-1] = said
    else:
        tally.said.append(said)


def _tally(partition: int, annotation: Annotation) -> Tally:
    source = next((s for s in annotation.sources if s.partition == partition), None)
    leader = ids.leader_of(annotation.texts) or annotation.subject_id
    text = next((t for t in annotation.texts if ids.caption_id(t) == leader), annotation.texts[0])
    subject = Subject(annotation.spec_id, annotation.subject_id, annotation.texts, annotation.sources)
    offset = -1 if source is None else source.offset
    specs = frozenset((annotation.spec_id,))
    caption = PendingCaption(partition, offset, leader, text, annotation.observed_at, b"", specs)
    return Tally(partition, subject, caption)
