"""The table of rewards, and that nothing else says which there are."""

from __future__ import annotations

from pathlib import Path

import pytest

from onibus.infra.errors import OnibusError
from onibus.infra.reward_kinds import REWARD_KINDS
from onibus.learner.options import make_options
from tests.command import run_onibus, the_one_line


def test_a_run_takes_every_reward_of_the_table_and_no_other() -> None:
    for name, kind in REWARD_KINDS.items():
        options = make_options("keyroom-s5", run="r", reward=name, motif_model="m")
        assert options.threshold == kind.threshold
    with pytest.raises(OnibusError, match="--reward praise: there is no such reward"):
        make_options("keyroom-s5", run="r", reward="praise")


def test_a_demo_refuses_an_unknown_reward_before_it_starts_anything(tmp_path: Path) -> None:
    line = the_one_line(run_onibus("demo", "--reward", "praise", folder=tmp_path))
    assert "--reward praise: there is no such reward; give one of: retrieval, classification," in line
    assert not list(tmp_path.iterdir())
