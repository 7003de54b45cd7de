"""A few answers are written at once, many in few transactions."""

from __future__ import annotations

import pytest

from onibus.consumers.annotator.pacing import LONGEST_PAUSE_SECONDS, WORTH_WRITING, Pacing


@pytest.mark.parametrize(
    ("last", "finished", "after", "is_due"),
    [
        (0, 1, 0.0, True),  # only offsets were written
        (1, 1, 0.009, False),
        (1, 1, 0.011, True),
        (20, 1, 0.19, False),
        (20, 1, 0.21, True),
        (1_000, 1, LONGEST_PAUSE_SECONDS - 0.01, False),
        (1_000, 1, LONGEST_PAUSE_SECONDS + 0.01, True),
        (1_000, WORTH_WRITING, 0.0, True),
    ],
)
def test_the_next_transaction_waits_by_what_the_last_one_wrote(
    last: int, finished: int, after: float, is_due: bool
) -> None:
    pacing = Pacing()
    assert pacing.is_due(1, 100.0), "the first waits for nothing"
    pacing.began(last, 100.0)
    assert pacing.is_due(finished, 100.0 + after) is is_due


def test_at_64_answers_in_a_fifth_of_a_second_four_transactions_a_second_are_enough() -> None:
    pacing, transactions, finished = Pacing(), 0, 0
    for step in range(5_000):  # milliseconds
        finished += step % 3 == 0
        if finished and pacing.is_due(finished, step / 1000):
            pacing.began(finished, step / 1000)
            transactions, finished = transactions + 1, 0
    assert 18 <= transactions <= 30
