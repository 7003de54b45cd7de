"""How far the judges of a spec agree: those of a panel, those of earlier days, and people.

A judge is a model (or the rules) with its revision, or a person. What counts is the last readable verdict of
each judge on each caption, or pair of captions, by itself: what it said, not what all of them came to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from onibus.consumers.labels.agreement import cohens_kappa, krippendorffs_alpha
from onibus.schemas.records import Annotation, Origin, Verdict

_NOTHING = -1
_VERDICTS = tuple(Verdict)
_CODES = {verdict: code for code, verdict in enumerate(_VERDICTS)}


@dataclass(frozen=True, slots=True)
class PairOfJudges:
    """Two judges: how many both judged, how often they said the same, Cohen's kappa where it is defined."""

    first: str
    second: str
    both: int
    agreed: int
    kappa: float | None


@dataclass(frozen=True, slots=True)
class Disputed:
    """A subject on which judges differ.

    Attributes:
        disagreement: share of the pairs of its judges that differ, above 0 to 1.
        frequency: how often its captions were published; None where that was not counted.
    """

    subject_id: bytes
    texts: tuple[str, ...]
    said: Mapping[str, Verdict]
    disagreement: float
    frequency: int | None


@dataclass(frozen=True, slots=True)
class JudgeAgreement:
    """What the judges of one spec have in common.

    Attributes:
        judged: subjects by judge.
        pairs: every two judges who judged a subject in common.
        alpha: Krippendorff's, over all judges; None where it is not defined.
        disputed: what counts most first.
    """

    judged: Mapping[str, int]
    pairs: Sequence[PairOfJudges]
    alpha: float | None
    disputed: Sequence[Disputed]


class Verdicts:
    """The last readable verdict of each judge on each subject of one spec; fed in the order of the log.

    Args:
        is_unreadable: whether a model's answer holds no verdict.
    """

    def __init__(self, is_unreadable: Callable[[Annotation], bool]) -> None:
        self._is_unreadable = is_unreadable
        self._said: dict[bytes, dict[str, Verdict]] = {}
        self._texts: dict[bytes, tuple[str, ...]] = {}

    @property
    def texts(self) -> Mapping[bytes, tuple[str, ...]]:
        """The captions of each subject."""
        return self._texts

    def apply(self, annotation: Annotation) -> None:
        """Take over the next annotation; a withdrawal takes back what was said before it."""
        subject = annotation.subject_id
        if annotation.origin is Origin.WITHDRAWAL or annotation.verdict is None:
            self._said.pop(subject, None)
            self._texts.pop(subject, None)
        elif not self._is_unreadable(annotation):
            said = annotation.said or annotation.verdict
            self._said.setdefault(subject, {})[judge_name(annotation)] = said
            self._texts[subject] = annotation.texts

    def agreement(self, most: int, frequency: Mapping[bytes, int] | None = None) -> JudgeAgreement:
        """Figures over all subjects, and up to ``most`` on which judges differ.

        Args:
            frequency: by subject id; the disputed are in the order of frequency times disagreement then.
        """
        judges = sorted({judge for said in self._said.values() for judge in said})
        codes = np.full((len(self._said), len(judges)), _NOTHING, np.int8)
        places = {judge: place for place, judge in enumerate(judges)}
        for row, said in enumerate(self._said.values()):
            for judge, verdict in said.items():
                codes[row, places[judge]] = _CODES[verdict]
        return JudgeAgreement(
            {judge: int(np.count_nonzero(codes[:, place] >= 0)) for judge, place in places.items()},
            [pair for one, other in combinations(judges, 2) if (pair := _pair(codes, places, one, other))],
            krippendorffs_alpha(codes),
            self._disputed(codes, most, frequency),
        )

    def _disputed(
        self, codes: NDArray[np.int8], most: int, frequency: Mapping[bytes, int] | None
    ) -> list[Disputed]:
        share = _differing(codes)
        subjects = list(self._said)
        times = np.array([1 if frequency is None else frequency.get(one, 0) for one in subjects], np.float64)
        order = sorted(np.flatnonzero(share), key=lambda row: (-times[row] * share[row], -share[row], row))
        return [
            Disputed(
                subjects[row],
                self._texts[subjects[row]],
                self._said[subjects[row]],
                float(share[row]),
                None if frequency is None else int(times[row]),
            )
            for row in order[:most]
        ]


def judge_name(annotation: Annotation) -> str:
    """Who judged: MODEL, MODEL@REVISION, or a person's name."""
    if annotation.origin is Origin.HUMAN:
        return f"{annotation.annotator} (person)"
    revision = f"@{annotation.model_revision}" if annotation.model_revision else ""
    return annotation.model + revision


def verdicts_by_spec(
    annotations: Iterable[Annotation], is_unreadable: Callable[[Annotation], bool]
) -> dict[bytes, Verdicts]:
    """The verdicts of each spec, by spec id."""
    found: dict[bytes, Verdicts] = {}
    for annotation in annotations:
        found.setdefault(annotation.spec_id, Verdicts(is_unreadable)).apply(annotation)
    return found


def _pair(codes: NDArray[np.int8], places: Mapping[str, int], one: str, other: str) -> PairOfJudges | None:
    first, second = codes[:, places[one]], codes[:, places[other]]
    both = (first >= 0) & (second >= 0)
    if not both.any():
        return None
    words = [[_VERDICTS[code].value for code in column[both]] for column in (first, second)]
    agreed = int(np.count_nonzero(first[both] == second[both]))
    return PairOfJudges(one, other, int(both.sum()), agreed, cohens_kappa(*words))


def _differing(codes: NDArray[np.int8]) -> NDArray[np.float64]:
    """Share of the pairs of judges that differ, by subject: float64 (n,); 0 with a single judge."""
    counts = np.stack([np.count_nonzero(codes == code, axis=1) for code in range(len(_VERDICTS))], axis=1)
    judges = counts.sum(axis=1)
    pairs = judges * (judges - 1)
    same = (counts * (counts - 1)).sum(axis=1)
    return np.where(pairs > 0, 1.0 - same / np.maximum(pairs, 1), 0.0)
