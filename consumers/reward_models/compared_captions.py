"""The data set of a ranking model: the annotation log folded to one verdict a pair of captions."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from heapq import heappush, heappushpop

import numpy as np
from numpy.typing import NDArray

from onibus.consumers.reward_models.character_cnn import to_bytes, to_rows
from onibus.consumers.reward_models.verdict_fold import VerdictFold, VerdictInForce
from onibus.schemas.records import Annotation, Verdict

MOST_SAMPLED = 2_048
"""Captions over which the scale of scores is measured; a mean of as many errs by 2 % of a deviation."""

_PREFERRED = {Verdict.FIRST: 1.0, Verdict.SECOND: 0.0, Verdict.TIE: 0.5}


@dataclass(frozen=True, slots=True)
class PairRows:
    """Compared pairs in the order of their ids.

    Attributes:
        captions: uint8 (n, 256), each caption once.
        first: int64 (m,), row of each pair's first caption.
        second: int64 (m,), row of its second.
        preferred: float32 (m,), how far the first is preferred: 1, 0, or 0.5 for a tie.
    """

    captions: NDArray[np.uint8]
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    preferred: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Entry(VerdictInForce):
    first: bytes
    second: bytes


class ComparedCaptions(VerdictFold[_Entry]):
    """Pairs of captions and the verdicts on them; an annotation of a single caption is of no interest.

    Memory: two references to up to 256 bytes and a dictionary entry a pair, the bytes once a caption.
    """

    def __init__(self) -> None:
        super().__init__()
        self._shared: dict[bytes, bytes] = {}
        self._sample: list[tuple[int, bytes]] = []

    def sample(self) -> NDArray[np.uint8]:
        """The different captions that were ever compared, or a sample of them: uint8 (n, 256).

        Of more than :data:`MOST_SAMPLED`, those whose hash is least: every caption has the same chance,
        however often it comes up, and the sample follows from the log alone and hardly changes as it grows.
        """
        return to_rows(sorted(caption for _, caption in self._sample))

    @property
    def can_teach(self) -> bool:
        """Whether some pair is decided. From ties alone a model learns that all is the same."""
        return any(self.count(verdict) for verdict in (Verdict.FIRST, Verdict.SECOND))

    def rows(self) -> PairRows:
        """Decided and tied pairs; unsure ones are left out."""
        chosen = [
            entry
            for _, entry in sorted(self._entries.items(), key=lambda item: item[0])
            if entry.verdict in _PREFERRED
        ]
        captions = sorted({caption for entry in chosen for caption in (entry.first, entry.second)})
        row = {caption: number for number, caption in enumerate(captions)}
        return PairRows(
            to_rows(captions),
            np.array([row[entry.first] for entry in chosen], np.int64),
            np.array([row[entry.second] for entry in chosen], np.int64),
            np.array([_PREFERRED[entry.verdict] for entry in chosen], np.float32),
        )

    def _entry(self, annotation: Annotation, verdict: Verdict, by_human: bool) -> _Entry | None:
        if len(annotation.texts) != 2:
            return None
        first, second = annotation.texts
        return _Entry(verdict, by_human, self._bytes(first), self._bytes(second))

    def _bytes(self, text: str) -> bytes:
        data = to_bytes(text)
        if data not in self._shared:
            self._shared[data] = data
            self._add_to_sample(data)
        return self._shared[data]

    def _add_to_sample(self, caption: bytes) -> None:
        entry = (-int.from_bytes(blake2b(caption, digest_size=8).digest()), caption)
        if len(self._sample) < MOST_SAMPLED:
            heappush(self._sample, entry)
        else:
            heappushpop(self._sample, entry)  # a heap of negative numbers: the largest hash goes
