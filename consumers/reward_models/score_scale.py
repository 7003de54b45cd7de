"""The scale of a ranking model's scores, measured once per version: what is average, what far above it.

A Bradley-Terry model fixes only differences of scores: a constant added to all of them is the same model. So
a score means something only beside the others of the same version, and each version brings the statistics of
its own scores with it. The learner estimates nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LARGEST = 5.0
"""Deviations that a caption is worth at most, however rare and good it is."""

_QUANTILES = 100
"""Steps of the quantile grid."""
_LEAST_DEVIATION = 1e-6
"""Scores that lie closer together than this tell nothing apart."""
_DIGITS = 7


@dataclass(frozen=True, slots=True)
class ScoreScale:
    """Mean, deviation and quantiles of a version's scores over different captions, each counted once.

    Why once each, and not by how often policies see them: a share of steps is under the policy's control.
    With weights, a policy that succeeds often moves the mean towards its success, and the reward of that
    success fades; one that repeats something dull lowers the mean, and everything else is paid more. Counted
    once, what a caption is worth does not depend on whether it comes up in 3 % or in 90 % of the steps. It
    also is a function of the annotation log alone, so that replay measures the same.

    Attributes:
        captions: how many were measured.
        mean: of their scores.
        deviation: standard deviation of their scores (of the population, not a sample's).
        quantiles: 101 scores; number k is exceeded by all but k percent of the captions.
    """

    captions: int
    mean: float
    deviation: float
    quantiles: tuple[float, ...]

    @classmethod
    def of(cls, scores: NDArray[np.float32]) -> ScoreScale:
        """The scale of scores, float32 (n,), one per caption; n > 0."""
        exact = scores.astype(np.float64)
        grid = np.quantile(exact, np.linspace(0, 1, _QUANTILES + 1))
        return cls(len(exact), _rounded(exact.mean()), _rounded(exact.std()), tuple(map(_rounded, grid)))

    @classmethod
    def from_figures(cls, figures: Mapping[str, float]) -> ScoreScale | None:
        """What :meth:`figures` gave; None where it is not all there: an older onibus made the version."""
        try:
            return cls(
                int(figures["captions"]),
                figures["mean"],
                figures["deviation"],
                tuple(figures[_name(k)] for k in range(_QUANTILES + 1)),
            )
        except KeyError:
            return None

    def figures(self) -> dict[str, float]:
        """By name, for ``normalisation`` in a model file and on ``reward-updates``."""
        told = {"captions": float(self.captions), "mean": self.mean, "deviation": self.deviation}
        return told | {_name(k): value for k, value in enumerate(self.quantiles)}

    def normalised(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """``min((score - mean) / deviation, 5)``, float32 (n,); zeros where all captions score alike."""
        if self.deviation < _LEAST_DEVIATION:
            return np.zeros_like(scores)
        normalised = (scores - np.float32(self.mean)) / np.float32(self.deviation)
        cut: NDArray[np.float32] = np.minimum(normalised, np.float32(LARGEST))
        return cut

    def quantile(self, share: float) -> float:
        """The score that ``share`` (0 to 1) of the captions do not exceed, linear between percents."""
        return float(np.interp(share * _QUANTILES, np.arange(_QUANTILES + 1), self.quantiles))


def _name(percent: int) -> str:
    return f"quantile_{percent / _QUANTILES:.2f}"


def _rounded(value: float) -> float:
    """As many digits as a float32 has: more would be noise."""
    return float(f"{value:.{_DIGITS}g}")
