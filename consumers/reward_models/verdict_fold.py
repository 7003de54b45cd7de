"""The annotation log folded to one verdict a subject: what every reward model's data set is made of."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Generic, TypeVar

from onibus.schemas.records import Annotation, Verdict
from onibus.schemas.verdict_in_force import is_by_person, overrides, verdict_of


@dataclass(frozen=True, slots=True)
class VerdictInForce:
    """A verdict in force; data sets add what was judged."""

    verdict: Verdict
    by_human: bool


Entry = TypeVar("Entry", bound=VerdictInForce)


class VerdictFold(Generic[Entry]):
    """The verdict in force on each subject (:mod:`onibus.schemas.verdict_in_force`).

    Annotations of a subject must be applied in the order of its partition; that of different partitions
    makes no difference. A data set says by :meth:`_entry` what it keeps of an annotation.

    Attributes:
        newest_annotated_at: of the annotations applied, microseconds since the epoch; 0 for none.
    """

    def __init__(self) -> None:
        self._entries: dict[bytes, Entry] = {}
        self._counts: Counter[Verdict] = Counter()
        self.newest_annotated_at = 0

    def __len__(self) -> int:
        """Number of subjects with a verdict, unsure ones included."""
        return len(self._entries)

    def apply(self, annotation: Annotation) -> None:
        """Take over one annotation; one that is no answer to what is learned changes nothing."""
        self.newest_annotated_at = max(self.newest_annotated_at, annotation.annotated_at)
        subject = annotation.subject_id
        before = self._entries.get(subject)
        if before is not None and not overrides(annotation, before.by_human):
            return
        if (verdict := verdict_of(annotation)) is None:
            self._put(subject, before, None)
        elif (entry := self._entry(annotation, verdict, is_by_person(annotation))) is not None:
            self._put(subject, before, entry)

    def __contains__(self, subject_id: bytes) -> bool:
        """Whether a subject has a verdict."""
        return subject_id in self._entries

    def count(self, verdict: Verdict) -> int:
        """Number of subjects with this verdict."""
        return self._counts[verdict]

    @property
    def can_teach(self) -> bool:
        """Whether there is something to tell apart. If not, no model is better than any."""
        raise NotImplementedError

    def _entry(self, annotation: Annotation, verdict: Verdict, by_human: bool) -> Entry | None:
        """What is kept of an annotation; None if it is of another kind."""
        raise NotImplementedError

    def _put(self, subject: bytes, before: Entry | None, entry: Entry | None) -> None:
        if before is not None:
            self._counts[before.verdict] -= 1
        if entry is None:
            self._entries.pop(subject, None)
        else:
            self._entries[subject] = entry
            self._counts[entry.verdict] += 1
