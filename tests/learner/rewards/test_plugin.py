"""``--reward module:Class``: a reward of the user's own."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from onibus.consumers.labels.table import HELPFUL, UNHELPFUL
from onibus.infra.errors import OnibusError
from onibus.infra.settings import Settings
from onibus.learner.rewards.formulas import SpecReward
from onibus.learner.rewards.plugin import PluginReward
from onibus.learner.run_files.history import read_history
from tests.command import run_onibus, the_one_line
from tests.learner.runs import checkpoint_of, learn_to_the_end

REWARDS = """\
import numpy as np

__version__ = "3"


class GoodAndBad:
    '''What is helpful pays, what is unhelpful costs, each at its first time alone.'''

    def __call__(self, batch):
        worth = batch.helpful.astype(np.float32) - batch.unhelpful
        return np.tensordot(batch.coefficients, worth, 1) * (batch.counts == 1)


class News:
    '''Whatever is said for the first time pays.'''

    def __call__(self, batch):
        return 0.25 * (batch.counts == 1)


class Failing:
    def __call__(self, batch):
        return batch.nothing


class Short:
    def __call__(self, batch):
        return batch.counts[:, 1:]


class Infinite:
    def __call__(self, batch):
        return np.full(batch.counts.shape, np.inf)


class Demanding:
    def __init__(self, more):
        pass


class Mute:
    pass
"""
IDS = np.array([[1, 2, 3, 0], [1, 1, 2, 3]])
COUNTS = np.array([[1, 1, 1, 0], [1, 2, 1, 1]])


class Labels:
    """1 is helpful, 2 unhelpful, 3 has no label."""

    def verdicts(self, _spec_id: bytes, ids: NDArray[np.int64]) -> NDArray[np.int8]:
        return np.select([ids == 1, ids == 2], [HELPFUL, UNHELPFUL], 0).astype(np.int8)


@pytest.fixture
def rewards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a module of rewards, where the command is run."""
    (tmp_path / "rewards.py").write_text(REWARDS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "rewards", raising=False)
    return tmp_path


def test_it_makes_rewards_of_labels_and_counts(rewards: Path) -> None:
    reward = PluginReward("rewards:GoodAndBad", Labels(), 3.0)
    assert reward(IDS, COUNTS).intrinsic.tolist() == np.zeros((2, 4)).tolist()  # no spec is announced yet
    reward.specs = (SpecReward(b"a", 0.5), SpecReward(b"b", 0.25))
    batch = reward(IDS, COUNTS)
    assert batch.intrinsic.tolist() == [[0.75, -0.75, 0, 0], [0.75, 0, -0.75, 0]]
    assert batch.coverage == 5 / 7


def test_what_is_no_reward_is_refused_by_its_name(rewards: Path) -> None:
    for name, says in (
        ("Failing", r"--reward rewards:Failing failed: AttributeError: .*nothing.* \(rewards.py, line 23\)"),
        ("Short", r"must return finite numbers of the shape of batch.ids, \(2, 4\); it returned \(2, 3\)"),
        ("Infinite", "some of them infinite or not a number"),
        ("Demanding", "--reward rewards:Demanding failed: TypeError"),
        ("Mute", r"its objects need __call__\(self, batch\)"),
    ):
        with pytest.raises(OnibusError, match=says):
            PluginReward(f"rewards:{name}", Labels(), 3.0)(IDS, COUNTS)


def test_there_is_no_such_reward(rewards: Path) -> None:
    line = the_one_line(run_onibus("learn", "--reward", "riches", folder=rewards))
    assert "--reward riches: there is no such reward; give one of: retrieval, " in line
    assert "or module:Class" in line
    line = the_one_line(run_onibus("learn", "--reward", "rewards:Riches", folder=rewards))
    assert "--reward rewards:Riches: rewards has no Riches" in line


@pytest.mark.slow
def test_a_run_is_rewarded_by_it(settings: Settings, rewards: Path) -> None:
    small = ("--task", "keyroom-s5", "--workers", "1", "--environments", "4", "--batch-size", "256")
    done = learn_to_the_end(settings, "--run", "news", *small, "--reward", "rewards:News", "--steps", "20000")
    assert done.returncode == 0, done.stderr
    checkpoint = checkpoint_of(settings.runs_dir / "news")
    assert checkpoint["onibus"]["plugins"] == {"rewards": "3"}
    assert max(row.get("intrinsic_return", 0.0) for row in read_history(settings.runs_dir / "news")) > 0
    done = learn_to_the_end(
        settings, "--run", "bad", *small, "--reward", "rewards:Failing", "--steps", "3000"
    )
    assert done.returncode == 2
    assert "--reward rewards:Failing failed: AttributeError" in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr
