"""Intervals for means, and how two sets of runs compare, after Agarwal et al. 2021 (arXiv 2108.13264).

PyPI's ``rliable``, by the same authors, has these too; it needs eleven packages more (pandas, seaborn,
statsmodels among them) for what is a few lines of NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 5_000
CONFIDENCE = 0.95
CURVE_RESAMPLES = 1_000
_ENDS = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)
_CHUNK = 1 << 22
"""Numbers drawn at a time, so that memory stays small for thousands of episodes."""

Values = NDArray[np.float64]
Statistic = Callable[[Values], Values]
"""Of samples in rows, float64 (R, N), one number each, float64 (R,)."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95 % interval; the ends are NaN where one value is all there is."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float | None]:
        """Value, low and high; null where there is none."""
        parts = {"value": self.value, "low": self.low, "high": self.high}
        return {name: None if math.isnan(part) else part for name, part in parts.items()}


def mean_of_rows(samples: Values) -> Values:
    """The mean of each row, float64 (R,)."""
    means: Values = samples.mean(axis=1)
    return means


def median_of_rows(samples: Values) -> Values:
    """The median of each row, float64 (R,)."""
    medians: Values = np.median(samples, axis=1)
    return medians


def estimate(values: Sequence[float] | Values, statistic: Statistic = mean_of_rows) -> Estimate:
    """``statistic`` of ``values`` with its percentile bootstrap interval (Efron 1979).

    The same values give the same interval: the generator's seed is fixed.
    """
    sample = np.asarray(values, np.float64)
    if not sample.size:
        return Estimate(math.nan, math.nan, math.nan)
    whole = float(statistic(sample[None, :])[0])
    if sample.size == 1:
        return Estimate(whole, math.nan, math.nan)
    rng = np.random.default_rng(0)
    drawn = [
        statistic(sample[rng.integers(sample.size, size=(rows, sample.size))]) for rows in _rows(sample.size)
    ]
    return Estimate(whole, *_interval(np.concatenate(drawn)))


def band_of_means(curves: Values) -> tuple[Values, Values]:
    """The interval of the mean of curves, float64 (N, T), at each point: low and high, float64 (T,) each.

    A percentile bootstrap over whole curves; NaN where there is but one.
    """
    count, points = curves.shape
    if count == 1:
        nothing = np.full(points, math.nan)
        return nothing, nothing
    picked = np.random.default_rng(0).integers(count, size=(CURVE_RESAMPLES, count))
    low, high = np.quantile(curves[picked].mean(axis=1), _ENDS, axis=0)
    return low, high


def probability_of_improvement(ours: Sequence[float], theirs: Sequence[float]) -> Estimate:
    """How likely a run of ``ours`` is to be above one of ``theirs``: P(X > Y) + P(X = Y) / 2.

    The Mann-Whitney statistic over all pairs, section 4.3 of Agarwal et al.; the interval is the percentile
    bootstrap over the runs of both.
    """
    x, y = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if not x.size or not y.size:
        return Estimate(math.nan, math.nan, math.nan)
    wins = (x[:, None] > y[None, :]) + (x[:, None] == y[None, :]) / 2
    whole = float(wins.mean())
    if x.size == 1 or y.size == 1:
        return Estimate(whole, math.nan, math.nan)
    rng = np.random.default_rng(0)
    drawn = []
    for rows in _rows(wins.size):
        rows_of_x = rng.integers(x.size, size=(rows, x.size, 1))
        rows_of_y = rng.integers(y.size, size=(rows, 1, y.size))
        drawn.append(wins[rows_of_x, rows_of_y].mean(axis=(1, 2)))
    return Estimate(whole, *_interval(np.concatenate(drawn)))


def performance_profile(values: Sequence[float], thresholds: Sequence[float]) -> Values:
    """The share of runs above each threshold, float64 (T,): the run-score distribution of Agarwal et al."""
    runs, cuts = np.asarray(values, np.float64), np.asarray(thresholds, np.float64)
    shares: Values = (runs[:, None] > cuts[None, :]).mean(axis=0)
    return shares


def _rows(width: int) -> list[int]:
    """:data:`RESAMPLES` in pieces, each of which draws at most :data:`_CHUNK` numbers."""
    piece = max(1, _CHUNK // width)
    return [min(piece, RESAMPLES - begun) for begun in range(0, RESAMPLES, piece)]


def _interval(drawn: NDArray[Any]) -> tuple[float, float]:
    low, high = np.quantile(drawn, _ENDS)
    return float(low), float(high)
