"""The captions' totals that a report is made of."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from threading import Event

import numpy as np
import pytest

from onibus.infra.files import write_whole
from onibus.infra.settings import Settings
from onibus.learner.options import make_options
from onibus.learner.rewards import source
from onibus.learner.rewards.source import RewardSource
from onibus.learner.run_files import caption_tally
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


def test_totals_are_those_of_adding_up_one_by_one(tmp_path: Path) -> None:
    rng, tally = np.random.default_rng(0), CaptionTally()
    steps, earned = Counter[int](), Counter[int]()
    for _ in range(20):
        ids, rewards = rng.integers(-40, 40, (8, 16)), rng.random((8, 16)).astype(np.float32)
        tally.add(ids, rewards)
        for caption, reward in zip(ids.reshape(-1).tolist(), rewards.reshape(-1).tolist(), strict=True):
            if caption:
                steps[caption] += 1
                earned[caption] += reward  # type: ignore[assignment]
    tally.save(tmp_path)
    for found in (tally.totals, CaptionTally.load(tmp_path).totals):
        assert {c: t.steps for c, t in found.items()} == steps
        assert {c: t.reward for c, t in found.items()} == pytest.approx(earned, abs=1e-3)
    assert json.loads((tmp_path / "captions.json").read_text())[0] == pytest.approx(
        [-40, steps[-40], earned[-40]], abs=1e-3
    )


def test_a_slow_disk_keeps_the_learner_from_nothing(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing, go_on = Event(), Event()

    def slow(path: Path, content: str) -> None:
        writing.set()
        assert go_on.wait(60)
        write_whole(path, content)

    monkeypatch.setattr(caption_tally, "write_whole", slow)
    monkeypatch.setattr(source, "SAVE_SECONDS", 0.0)
    rewards = RewardSource(settings, make_options("keyroom-s5", run="a-run", reward="none"), tmp_path)
    try:
        for step in range(5):
            rewards.intrinsic(np.full((2, 3), 7 + step), np.ones((2, 3), np.int64), 0.0)
            rewards.statistics()  # would hang here
        assert writing.wait(20)
        assert not (tmp_path / "captions.json").exists()
    finally:
        go_on.set()
        rewards.stop()
    assert {c: t.steps for c, t in CaptionTally.load(tmp_path).totals.items()} == dict.fromkeys(
        range(7, 12), 6
    )
