"""Running mean and standard deviation of a ranking model's scores: only their differences mean something."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

WINDOW = 100_000
"""Steps over which older scores fade: the model and what the policy sees both change."""
MOST = 5.0
"""A caption that is very rare is not worth more standard deviations than this."""


@dataclass(slots=True)
class RunningNormalisation:
    """Mean and variance of the scores of the captions that steps brought about, over about WINDOW steps.

    The update is Chan's for batches ("Updating Formulae and a Pairwise Algorithm for Computing Sample
    Variances", 1979), with the count held at WINDOW.
    """

    count: float = 0.0
    mean: float = 0.0
    variance: float = 0.0

    def update(self, scores: NDArray[np.float32]) -> None:
        """Take in the scores (n,) of a batch's captions."""
        if not scores.size:
            return
        count, mean, variance = float(scores.size), float(scores.mean()), float(scores.var())
        total = self.count + count
        apart = mean - self.mean
        self.mean += apart * count / total
        shared = self.variance * self.count + variance * count + apart**2 * self.count * count / total
        self.variance = shared / total
        self.count = min(total, WINDOW)

    def __call__(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores in standard deviations from the mean, at most MOST; zeros while all have been the same."""
        if self.variance <= 0:
            return np.zeros_like(scores)
        normalised = (scores - np.float32(self.mean)) / np.float32(np.sqrt(self.variance))
        cut: NDArray[np.float32] = np.minimum(normalised, np.float32(MOST))
        return cut

    def state(self) -> dict[str, float]:
        """For a checkpoint: :class:`RunningNormalisation` takes it as arguments."""
        return asdict(self)
