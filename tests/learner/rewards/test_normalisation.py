"""Running statistics of ranking scores, and that the threshold acts on what they make of a score."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onibus.learner.rewards import normalisation
from onibus.learner.rewards.functions import ModelReward, NormalisedAboveThreshold, SpecReward
from onibus.learner.rewards.normalisation import RunningNormalisation

SPEC = b"pairs..."


@given(st.lists(st.lists(st.floats(-50, 50), min_size=1, max_size=20), min_size=1, max_size=10))
def test_over_any_batches_it_is_the_mean_and_variance_of_all(batches: list[list[float]]) -> None:
    running = RunningNormalisation()
    for batch in batches:
        running.update(np.array(batch, np.float32))
    everything = np.array([x for batch in batches for x in batch])
    assert running.mean == pytest.approx(everything.mean(), abs=1e-3)
    assert running.variance == pytest.approx(everything.var(), abs=1e-2, rel=1e-3)


def test_older_scores_fade(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(normalisation, "WINDOW", 100)
    running = RunningNormalisation()
    for level in (0.0, 10.0):
        for _ in range(50):
            running.update(np.array([level - 1, level + 1] * 5, np.float32))
    assert running.mean == pytest.approx(10, abs=0.3)
    assert running.variance == pytest.approx(1, abs=1.5)


class Fixed:
    """Scores that are the ids themselves."""

    def scores(self, spec_id: bytes, ids: np.ndarray) -> np.ndarray:
        return np.where(ids == 0, np.nan, ids).astype(np.float32)


def reward(threshold: float) -> tuple[ModelReward, NormalisedAboveThreshold]:
    shape = NormalisedAboveThreshold(threshold)
    paid = ModelReward(Fixed(), shape, count_beta=3.0)
    paid.specs = [SpecReward(SPEC, 0.5)]
    return paid, shape


def test_the_threshold_acts_on_the_normalised_score_and_not_on_the_raw_one() -> None:
    ids = np.array([100, 100, 100, 101], np.int64)  # raw scores far above any threshold
    paid, shape = reward(threshold=1.0)
    batch = paid(ids, np.ones(4, np.int64))
    deviation = (101 - shape.running[SPEC].mean) / shape.running[SPEC].variance ** 0.5
    assert batch.intrinsic.tolist() == pytest.approx([0, 0, 0, 0.5 * deviation])
    assert 1.0 < deviation < 2.0
    assert not reward(threshold=2.0)[0](ids, np.ones(4, np.int64)).intrinsic.any()


def test_steps_without_a_score_neither_count_nor_pay_and_repeats_fade() -> None:
    paid, shape = reward(threshold=0.0)
    batch = paid(np.array([[0, 5, 7], [0, 5, 7]], np.int64), np.array([[0, 1, 1], [0, 2, 2]], np.int64))
    assert shape.running[SPEC].count == 4
    assert batch.coverage == 1.0
    assert batch.intrinsic.tolist() == [[0, 0, 0.5], [0, 0, 0.5 / 8]]


def test_while_all_scores_have_been_the_same_nothing_is_paid() -> None:
    assert not reward(0.0)[0](np.array([7, 7], np.int64), np.ones(2, np.int64)).intrinsic.any()


def test_a_rare_score_is_not_worth_more_than_the_most() -> None:
    running = RunningNormalisation(count=1_000, mean=0.0, variance=1.0)
    assert running(np.array([99.0, -99.0], np.float32)).tolist() == [normalisation.MOST, -99.0]


def test_it_goes_on_from_its_state() -> None:
    running = RunningNormalisation()
    running.update(np.array([1, 2, 3], np.float32))
    assert RunningNormalisation(**running.state()) == running
