"""What a score is worth: from a judge's scores to rewards, before coefficient and fading."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from onibus.consumers.reward_models.score_scale import ScoreScale
from onibus.learner.options import LearnOptions


class Shape(Protocol):
    """Makes rewards of scores."""

    def __call__(self, scores: NDArray[np.float32], scale: ScoreScale | None) -> NDArray[np.float32]:
        """Rewards (n,) of scores (n,), both float32; ``scale`` is that of the version that scored."""
        ...


class AboveThreshold:
    """1 above the threshold, else 0: for ``classification``, whose scores are p(helpful).

    ONI's ``r = 1[p(helpful | caption) > 0.5]`` (arXiv 2410.23022, section 4.1).
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold

    def __call__(self, scores: NDArray[np.float32], scale: ScoreScale | None) -> NDArray[np.float32]:
        del scale
        return (scores > self._threshold).astype(np.float32)


class ScoreAboveThreshold:
    """The score itself above the threshold, else 0: for ``similarity``."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold

    def __call__(self, scores: NDArray[np.float32], scale: ScoreScale | None) -> NDArray[np.float32]:
        del scale
        return np.where(scores > self._threshold, scores, np.float32(0))


class NormalisedAboveThreshold:
    """For ``ranking`` and ``motif``: deviations of a score above the average, where they are enough.

    ``r = max(0, z)`` with ``z = min((score - mean) / deviation, 5)`` where ``z > threshold``, or where the
    score exceeds the ``quantile`` of the version's captions, if one is given; else 0. Mean, deviation and
    quantile are the version's own (:class:`~onibus.consumers.reward_models.score_scale.ScoreScale`), so
    neither what the policy does nor a constant added to all scores changes a reward.

    Motif (arXiv 2310.00166, section 3) pays ``z`` above a quantile, 0.5 as published, and 0 below. Where the
    median lies below the mean, which is usual, that is negative for captions between the two, and a policy
    does better with a bad caption than with a mediocre one. So here a reward is never below 0.

    Args:
        threshold: in deviations from the mean.
        quantile: from 0 to 1, in place of the threshold.
    """

    def __init__(self, threshold: float, quantile: float | None = None) -> None:
        self._threshold, self._quantile = threshold, quantile

    def __call__(self, scores: NDArray[np.float32], scale: ScoreScale | None) -> NDArray[np.float32]:
        if scale is None:
            return np.zeros_like(scores)
        normalised = scale.normalised(scores)
        if self._quantile is None:
            paid = normalised > self._threshold
        else:
            paid = scores > scale.quantile(self._quantile)
        return np.where(paid, np.maximum(normalised, np.float32(0)), np.float32(0))


def shape_of(options: LearnOptions) -> Shape:
    """What the scores of a run's reward are worth."""
    if options.kind.compares:
        return NormalisedAboveThreshold(options.threshold, options.reward_quantile)
    return (ScoreAboveThreshold if options.reward == "similarity" else AboveThreshold)(options.threshold)
