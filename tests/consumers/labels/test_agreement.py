"""Figures over plain arrays, against values worked out by hand and by definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onibus.consumers.labels.agreement import binary_figures, cohens_kappa, roc_auc


def test_figures_of_four_probabilities() -> None:
    figures = binary_figures(np.array([0.9, 0.6, 0.4, 0.1]), np.array([True, False, True, False]), 0.5)
    assert (figures.count, figures.positive, figures.accuracy) == (4, 2, 0.5)
    assert (figures.precision, figures.recall, figures.roc_auc) == (0.5, 0.5, 0.75)
    assert figures.brier == pytest.approx((0.01 + 0.36 + 0.36 + 0.01) / 4)
    assert [(b.low, b.count, b.share_true) for b in figures.calibration] == [
        (0.1, 1, 0.0), (0.4, 1, 1.0), (0.6, 1, 0.0), (0.9, 1, 1.0)
    ]  # fmt: skip


def test_undefined_figures_are_none() -> None:
    figures = binary_figures(np.array([0.1, 1.0]), np.array([False, False]), 2.0)
    assert (figures.precision, figures.recall, figures.roc_auc) == (None, None, None)
    assert figures.calibration[-1].high == 1.0


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30))
def test_roc_auc_is_the_share_of_pairs_in_the_right_order(scored: list[tuple[int, bool]]) -> None:
    yes = [score for score, true in scored if true]
    no = [score for score, true in scored if not true]
    found = roc_auc(np.array([s for s, _ in scored], np.float64), np.array([t for _, t in scored]))
    if not yes or not no:
        assert found is None
    else:
        right = sum((a > b) + (a == b) / 2 for a in yes for b in no)
        assert found == pytest.approx(right / (len(yes) * len(no)))


@pytest.mark.parametrize(
    ("table", "kappa"),
    [
        # Cohen's own kind of example: 20 + 15 agreed of 50, by chance half
        ({("y", "y"): 20, ("y", "n"): 5, ("n", "y"): 10, ("n", "n"): 15}, 0.4),
        ({("y", "y"): 5, ("n", "n"): 5}, 1.0),
        ({("y", "n"): 5, ("n", "y"): 5}, -1.0),
        ({("y", "y"): 5}, None),
    ],
)
def test_cohens_kappa(table: dict[tuple[str, str], int], kappa: float | None) -> None:
    words = [pair for pair, count in table.items() for _ in range(count)]
    found = cohens_kappa([a for a, _ in words], [b for _, b in words])
    assert found == (kappa if kappa is None else pytest.approx(kappa))
