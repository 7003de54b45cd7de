"""The data set of a reward model: the annotation log folded to one verdict a caption."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from consumers.reward_models.character_cnn import to_bytes, to_rows
from consumers.reward_models.objective import is_held_out
from schemas.records import Annotation, Origin, Verdict

_TAUGHT = (Verdict.UNHELPFUL, Verdict.HELPFUL)


@dataclass(frozen=True, slots=True)
class CaptionRows:
    """Captions with their verdicts, in the order of their ids.

    Attributes:
        captions: uint8 (n, 256).
        helpful: bool (n,).
    """

    captions: NDArray[np.uint8]
    helpful: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Entry:
    caption: bytes
    verdict: Verdict
    by_human: bool


class LabelledCaptions:
    """The newest verdict on each caption; a person's stands over a model's, a withdrawn one is out.

    Annotations of a caption must be applied in the order of its partition; that of different partitions
    makes no difference. Memory: up to 256 bytes and a dictionary entry a caption.
    """

    def __init__(self) -> None:
        self._entries: dict[bytes, _Entry] = {}
        self._counts: Counter[tuple[bool, Verdict]] = Counter()
        self.newest_annotated_at = 0

    def __len__(self) -> int:
        """Number of captions with a verdict, unsure ones included."""
        return len(self._entries)

    def apply(self, annotation: Annotation) -> None:
        """Take over one annotation of a single caption."""
        self.newest_annotated_at = max(self.newest_annotated_at, annotation.annotated_at)
        subject = annotation.subject_id
        before = self._entries.get(subject)
        if annotation.origin is Origin.WITHDRAWAL or annotation.verdict is None:
            self._put(subject, before, None)
            return
        by_human = annotation.origin is Origin.HUMAN
        if before is not None and before.by_human and not by_human:
            return
        entry = _Entry(to_bytes(annotation.texts[0]), annotation.verdict, by_human)
        self._put(subject, before, entry)

    def count(self, verdict: Verdict, *, held_out: bool) -> int:
        """Number of captions with this verdict in one part of the data."""
        return self._counts[held_out, verdict]

    @property
    def can_teach(self) -> bool:
        """Whether both classes are there to learn from. From one alone a model learns to say always it."""
        return all(self.count(verdict, held_out=False) > 0 for verdict in _TAUGHT)

    def rows(self, *, held_out: bool) -> CaptionRows:
        """Helpful and unhelpful captions of one part; unsure ones are in neither."""
        subjects = sorted(
            subject
            for subject, entry in self._entries.items()
            if entry.verdict in _TAUGHT and is_held_out(subject) == held_out
        )
        chosen = [self._entries[subject] for subject in subjects]
        helpful = np.array([entry.verdict is Verdict.HELPFUL for entry in chosen], dtype=np.bool_)
        return CaptionRows(to_rows([entry.caption for entry in chosen]), helpful)

    def _put(self, subject: bytes, before: _Entry | None, entry: _Entry | None) -> None:
        part = is_held_out(subject)
        if before is not None:
            self._counts[part, before.verdict] -= 1
        if entry is None:
            self._entries.pop(subject, None)
        else:
            self._entries[subject] = entry
            self._counts[part, entry.verdict] += 1
