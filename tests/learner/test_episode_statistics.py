"""What an episode reports reaches the history and TensorBoard of a real run."""

from __future__ import annotations

import json

import pytest

from onibus.infra.settings import Settings
from onibus.learner.options import load_options
from onibus.learner.run_files.history import read_history
from tests.consumers.replay.running import onibus, onibus_json
from tests.learner.runs import start_learner, stop, wait_ready
from tests.waiting import wait_until


@pytest.mark.slow
def test_what_episodes_came_to_is_in_the_history_and_on_the_board(settings: Settings) -> None:
    folder = settings.runs_dir / "stairs"
    learner = start_learner(
        settings, "stairs", "--task", "staircase", "--max-episode-steps", "40", "--serial"
    )
    wait_ready(learner)
    wait_until(lambda: read_history(folder)[-1].get("success") is not None, 60, "episodes that ended")
    assert stop(learner) == 0
    row = read_history(folder)[-1]
    assert {"success", "score", "depth", "experience_level", "gold", "turns", "died"} <= set(row)
    assert load_options(folder).actions == "oni"
    assert row["return"] == pytest.approx(50 * row["success"])
    assert row["scout"] > 20
    assert row["kills"] >= 0
    assert 0 <= row["progression"] < 0.1
    board = b"".join(file.read_bytes() for file in (folder / "tensorboard").glob("events*"))
    for name in ("success", "scout", "kills", "progression", "died"):
        assert f"onibus/{name}".encode() in board
    played = ("rollout", "--checkpoint", folder, "--run", "again", "--episodes", 2, "--environments", 2)
    assert json.loads(onibus(settings, *played, "--max-episode-steps", 20, "--json"))["episodes"] == 2
    again = onibus_json(settings, "episodes", "list", "again/")
    assert {(row["task"], row["action_set"], row["policy_version"] > 0) for row in again} == {
        ("staircase", "oni", True)
    }
