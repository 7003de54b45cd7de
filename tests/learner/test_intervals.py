"""Intervals and comparisons: against values that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from onibus.learner.intervals import (
    Estimate,
    estimate,
    median_of_rows,
    performance_profile,
    probability_of_improvement,
)


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution_for_many_values() -> None:
    values = np.random.default_rng(3).normal(2.0, 1.0, 400)
    found = estimate(values)
    error = 1.96 * values.std(ddof=1) / math.sqrt(400)
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - error, abs=0.02)
    assert found.high == pytest.approx(values.mean() + error, abs=0.02)


def test_ninety_five_of_a_hundred_intervals_hold_the_mean() -> None:
    rng = np.random.default_rng(0)
    found = [estimate(rng.normal(0.0, 1.0, 60)) for _ in range(100)]
    assert 88 <= sum(one.low <= 0.0 <= one.high for one in found) <= 99


def test_the_same_values_give_the_same_interval() -> None:
    assert estimate([1.0, 2.0, 5.0]) == estimate([1.0, 2.0, 5.0])
    assert estimate([1.0, 2.0, 5.0], median_of_rows).value == 2.0


def test_one_value_has_no_interval_and_no_values_nothing() -> None:
    assert estimate([4.0]).value == 4.0
    assert math.isnan(estimate([4.0]).low)
    assert estimate([4.0]).to_json() == {"value": 4.0, "low": None, "high": None}
    assert math.isnan(estimate([]).value)


def test_the_probability_of_improvement_counts_pairs_and_halves_of_ties() -> None:
    assert probability_of_improvement([2.0, 3.0], [1.0, 2.0]).value == (1 + 0.5 + 1 + 1) / 4
    assert probability_of_improvement([5.0, 6.0], [1.0, 2.0]) == Estimate(1.0, 1.0, 1.0)
    assert math.isnan(probability_of_improvement([1.0], [1.0, 2.0]).low)


def test_runs_compared_with_themselves_are_no_better() -> None:
    runs = [0.1, 0.7, 0.4]
    found = probability_of_improvement(runs, runs)
    assert found.value == 0.5
    assert found.low <= 0.5 <= found.high


def test_a_profile_is_the_share_of_runs_above() -> None:
    assert performance_profile([0.0, 1.0, 2.0], [-1.0, 0.0, 1.5, 2.0]).tolist() == [1.0, 2 / 3, 1 / 3, 0.0]
