"""The benchmark of near pairs compares as annotators do, and says how well the order is learned."""

from __future__ import annotations

import numpy as np
import pytest

from onibus.learner.benchmarks.near_pairs import _in_order, _worth, measure


def test_pairs_whose_order_the_judge_does_not_know_do_not_count() -> None:
    worth = np.array([3.0, 1.0, 1.0])
    assert _in_order(np.array([9.0, 8.0, 7.0]), worth) == 1.0
    assert _in_order(np.array([8.0, 9.0, 7.0]), worth) == 0.5
    assert _worth("You kill the newt!  You see here 7 gold pieces.") == 6 + 5 + 1.5


@pytest.mark.slow
def test_it_runs_with_few_captions() -> None:
    comparisons, anyhow, near, *_ = measure(4_000, 192, 1)
    assert 0 < comparisons.value <= 4 * 192
    assert anyhow.value > 0.5
    assert near.value > 0.5
