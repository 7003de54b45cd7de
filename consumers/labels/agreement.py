"""How well probabilities predict verdicts, and how far two judges agree: figures over plain arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_BINS = 10


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """Probabilities from ``low`` to below ``high``: how many, their mean, and the share that came true."""

    low: float
    high: float
    count: int
    mean_probability: float
    share_true: float


@dataclass(frozen=True, slots=True)
class BinaryFigures:
    """How well probabilities of a yes predict it.

    Attributes:
        accuracy: share on the right side of the threshold; precision and recall as usual, None if undefined.
        roc_auc: probability that a yes scores higher than a no, ties count half; None with a single class.
        brier: mean squared distance from what came true.
        calibration: bins of a tenth each, empty ones left out.
    """

    count: int
    positive: int
    accuracy: float
    precision: float | None
    recall: float | None
    roc_auc: float | None
    brier: float
    calibration: tuple[CalibrationBin, ...]


def binary_figures(
    probability: NDArray[np.float64], true: NDArray[np.bool_], threshold: float
) -> BinaryFigures:
    """Figures of probabilities, float64 (n,), against what came true, bool (n,); n > 0."""
    predicted = probability > threshold
    hits = int(np.count_nonzero(predicted & true))
    return BinaryFigures(
        count=len(true),
        positive=int(np.count_nonzero(true)),
        accuracy=float(np.mean(predicted == true)),
        precision=hits / predicted.sum() if predicted.any() else None,
        recall=hits / true.sum() if true.any() else None,
        roc_auc=roc_auc(probability, true),
        brier=float(np.mean((probability - true) ** 2)),
        calibration=tuple(_calibration(probability, true)),
    )


def roc_auc(score: NDArray[np.float64], true: NDArray[np.bool_]) -> float | None:
    """Area under the ROC curve, by ranks (Mann-Whitney U); None with a single class."""
    positive, negative = int(np.count_nonzero(true)), int(np.count_nonzero(~true))
    if not positive or not negative:
        return None
    _, group, sizes = np.unique(score, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(sizes) - (sizes - 1) / 2
    ranks = float(mean_rank[group][true].sum())
    return (ranks - positive * (positive + 1) / 2) / (positive * negative)


def cohens_kappa(first: Sequence[str], second: Sequence[str]) -> float | None:
    """Agreement of two judges beyond chance (Cohen 1960, doi 10.1177/001316446002000104).

    None if chance alone makes them agree, because both always give the same single answer.
    """
    one, other = np.array(first), np.array(second)
    agreed = float(np.mean(one == other))
    by_chance = sum(float(np.mean(one == word) * np.mean(other == word)) for word in {*first, *second})
    return None if by_chance == 1 else (agreed - by_chance) / (1 - by_chance)


def krippendorffs_alpha(codes: NDArray[np.int8]) -> float | None:
    """Agreement of any number of judges beyond chance, of which each may have judged only some of the units.

    Krippendorff's alpha for nominal data (K. Krippendorff 2011, "Computing Krippendorff's
    Alpha-Reliability", https://repository.upenn.edu/asc_papers/43). Units with a single verdict do not count.
    With m_u verdicts on unit u, of which n_uc are c, n_c of all verdicts, and n verdicts altogether::

        alpha = 1 - (n - 1) * (n - sum_u sum_c n_uc (n_uc - 1) / (m_u - 1)) / (n^2 - sum_c n_c^2)

    Args:
        codes: int8 (units, judges); what each judge said of each unit, from 0, and below 0 for nothing.

    Returns:
        None if no two judges judged the same unit, or all verdicts are the same.
    """
    if not codes.size or codes.max() < 0:
        return None
    counts = np.stack(
        [np.count_nonzero(codes == code, axis=1) for code in range(int(codes.max()) + 1)], axis=1
    )
    counts = counts[counts.sum(axis=1) > 1].astype(np.float64)
    verdicts, by_code = counts.sum(axis=1), counts.sum(axis=0)
    n = float(verdicts.sum())
    differing = n - float(((counts * (counts - 1)).sum(axis=1) / (verdicts - 1)).sum())
    by_chance = n**2 - float((by_code**2).sum())
    return None if by_chance == 0 else 1 - (n - 1) * differing / by_chance


def _calibration(probability: NDArray[np.float64], true: NDArray[np.bool_]) -> list[CalibrationBin]:
    bins = np.minimum((probability * _BINS).astype(int), _BINS - 1)
    return [
        CalibrationBin(
            number / _BINS,
            (number + 1) / _BINS,
            int(np.count_nonzero(bins == number)),
            float(probability[bins == number].mean()),
            float(true[bins == number].mean()),
        )
        for number in np.unique(bins)
    ]
