"""The captions' totals that a report is made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from onibus.learner.run_files.caption_tally import CaptionTally


def test_counts_and_rewards_add_up_over_batches_and_no_caption_is_left_out() -> None:
    tally = CaptionTally()
    tally.add(np.array([[7, 7, 0]]), np.array([[1.0, 0.5, 0.0]], dtype=np.float32))
    tally.add(np.array([7, 9]), np.array([0.25, 0.0], dtype=np.float32))
    assert {c: (t.steps, t.reward) for c, t in tally.totals.items()} == {7: (3, 1.75), 9: (1, 0.0)}


def test_totals_survive_a_restart_of_the_run(tmp_path: Path) -> None:
    tally = CaptionTally()
    tally.add(np.array([-5, 3]), np.array([0.5, 0.0], dtype=np.float32))
    tally.save(tmp_path)
    again = CaptionTally.load(tmp_path)
    again.add(np.array([-5]), np.array([0.5], dtype=np.float32))
    assert (again.totals[-5].steps, again.totals[-5].reward) == (2, 1.0)


def test_memory_is_bounded_and_the_most_frequent_stay() -> None:
    tally = CaptionTally(limit=100)
    tally.add(np.repeat(np.int64(1), 50), np.zeros(50, dtype=np.float32))
    for start in range(2, 1_000, 50):
        tally.add(np.arange(start, start + 50), np.zeros(50, dtype=np.float32))
    assert len(tally.totals) <= 100
    assert tally.totals[1].steps == 50
