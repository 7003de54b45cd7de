"""``onibus watch``: the newest policy's games, as a user starts it and as they are made."""

from __future__ import annotations

import os
import pty
import shutil
import signal
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from onibus.learner.evaluation.watching import newest_games
from onibus.learner.evaluation.workers import EvaluationPlan, played
from onibus.producers.nethack.episodes import verify
from tests.command import REPOSITORY, run_onibus, the_one_line
from tests.learner.fresh_checkpoint import fresh_run


def test_the_games_are_those_of_an_evaluation_and_play_again(tmp_path: Path) -> None:
    checkpoint = fresh_run(tmp_path / "a-run")
    evaluated = sorted(played(checkpoint, EvaluationPlan(3)), key=lambda episode: episode.index)
    games = newest_games(tmp_path, "a-run", seed=0, greedy=False, most_steps=None, begin=lambda *_: None)
    watched = list(islice(games, 3))
    assert [game.extrinsic_return for game in watched] == pytest.approx(
        [episode.figures["return"] for episode in evaluated]
    )
    for game in watched:
        verify(game)


def test_each_game_is_played_by_the_newest_checkpoint_and_ends_at_the_limit(tmp_path: Path) -> None:
    first = fresh_run(tmp_path / "a-run")
    seen: list[tuple[str, int]] = []
    games = newest_games(
        tmp_path,
        "a-run",
        seed=0,
        greedy=True,
        most_steps=7,
        begin=lambda path, number: seen.append((path.name, number)),
    )
    assert next(games).steps == 7
    newer = first.with_name("checkpoint_000000009_900.pth")
    shutil.copy(first, newer)
    assert next(games).steps == 7
    assert seen == [(first.name, 0), (newer.name, 1)]


@pytest.mark.slow
@pytest.mark.integration
def test_the_command_needs_no_broker_and_sums_up_each_game(tmp_path: Path) -> None:
    fresh_run(tmp_path / "runs" / "a-run")
    away = {"ONIBUS_BOOTSTRAP_SERVERS": "127.0.0.1:1", "CUDA_VISIBLE_DEVICES": ""}
    done = run_onibus("watch", "a-run", "--episodes", 2, folder=tmp_path, environment=away)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "captions were shown without rewards" in lines[0]
    assert len(lines) == 3
    assert [line.split(":")[0] for line in lines[1:]] == [
        f"a-run checkpoint_000000003_300 game {number}" for number in (0, 1)
    ]
    missing = run_onibus("watch", "b-run", folder=tmp_path, environment=away)
    assert "give one of: a-run" in the_one_line(missing)


@pytest.mark.slow
@pytest.mark.integration
def test_a_terminal_of_80_by_24_shows_the_map_until_ctrl_c(tmp_path: Path) -> None:
    fresh_run(tmp_path / "runs" / "a-run", max_episode_steps=5)
    ours, theirs = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ONIBUS_")} | {
        "COLUMNS": "80",
        "LINES": "24",
        "TERM": "xterm-256color",
        "ONIBUS_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "PYTHONPATH": str(REPOSITORY),
    }
    child = subprocess.Popen(
        [sys.executable, "-m", "onibus", "watch", "a-run", "--speed", "0"],
        cwd=tmp_path,
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    shown, asked = b"", False
    while True:
        try:
            shown += os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not asked and b"game 1" in shown and b"step 5  return" in shown:
            asked = True
            child.send_signal(signal.SIGINT)  # as a terminal does at Ctrl-C
    os.close(ours)
    assert child.wait(60) == 0, shown
    assert b"@" in shown
    begins, ends = shown.index(b"\x1b[?1049h"), shown.index(b"\x1b[?1049l")
    assert begins < ends
    assert b"game 0: 5 steps" in shown[ends:], "games are summed up where they stay to be read"
    assert b"Traceback" not in shown
