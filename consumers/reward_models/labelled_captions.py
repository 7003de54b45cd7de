"""The data set of a reward model: the annotation log folded to one verdict a caption."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onibus.consumers.reward_models.character_cnn import to_bytes, to_rows
from onibus.consumers.reward_models.verdict_fold import VerdictFold, VerdictInForce
from onibus.schemas.records import Annotation, Verdict

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
class _Entry(VerdictInForce):
    caption: bytes


class LabelledCaptions(VerdictFold[_Entry]):
    """Captions and the verdicts on them. Memory: up to 256 bytes and a dictionary entry a caption."""

    @property
    def can_teach(self) -> bool:
        """Whether both classes are there to learn from. From one alone a model learns to say always it."""
        return all(self.count(verdict) > 0 for verdict in _TAUGHT)

    def rows(self, most: int | None = None) -> CaptionRows:
        """Helpful and unhelpful captions; unsure ones are left out.

        Args:
            most: of each verdict, those with the least ids, which are hashes; None for all.
        """
        subjects = sorted(s for s, entry in self._entries.items() if entry.verdict in _TAUGHT)
        if most is not None and len(subjects) > most:
            helpful = [s for s in subjects if self._entries[s].verdict is Verdict.HELPFUL][:most]
            unhelpful = [s for s in subjects if self._entries[s].verdict is Verdict.UNHELPFUL][:most]
            subjects = sorted(helpful + unhelpful)
        chosen = [self._entries[subject] for subject in subjects]
        is_helpful = np.array([entry.verdict is Verdict.HELPFUL for entry in chosen], dtype=np.bool_)
        return CaptionRows(to_rows([entry.caption for entry in chosen]), is_helpful)

    def _entry(self, annotation: Annotation, verdict: Verdict, by_human: bool) -> _Entry:
        return _Entry(verdict, by_human, to_bytes(annotation.texts[0]))
