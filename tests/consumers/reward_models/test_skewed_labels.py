"""Few captions are helpful and the judge wavers: what is rewarded is helpful all the same."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from onibus.learner.benchmarks import skewed_labels
from onibus.learner.benchmarks.skewed_labels import ModelTrial

pytestmark = pytest.mark.slow

SEEDS = (0, 1, 2)


@cache
def judged() -> list[tuple[ModelTrial, ModelTrial]]:
    return [skewed_labels.judgements(seed) for seed in SEEDS]


def test_what_is_rewarded_is_helpful_though_few_are_and_the_judge_wavers() -> None:
    """A label alone is right about half of what it calls helpful; so was a model with balanced draws."""
    new = [one.rewarded for _, one in judged()]
    assert np.mean([figures.precision for figures in new]) >= 0.9
    assert np.mean([figures.recall for figures in new]) >= 0.9
    own = [one for one, _ in judged()]
    assert np.mean([one.rewarded.precision for one in own]) > 0.8
    assert np.mean([one.true[one.said].mean() for one in own]) < 0.6


def test_probabilities_are_as_often_right_as_they_say() -> None:
    for _, new in judged():
        assert new.calibration_error < 0.06
        assert new.probability.mean() == pytest.approx(new.said.mean(), abs=0.03)
