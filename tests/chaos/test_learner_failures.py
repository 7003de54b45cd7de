"""A learner in which something fails ends at once, says what and why in one line, and leaves nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from onibus.infra.broker import BrokerOptions, start_broker, stop_broker
from onibus.infra.kafka.topic_admin import create_topics
from onibus.infra.settings import Settings, environment_of, load_settings
from onibus.learner.checkpoints import newest_checkpoint
from onibus.learner.run_files.history import read_history
from tests.chaos.failing_learner import ONCE, REASON
from tests.chaos.learners import BUSY_SECONDS, STOP_SECONDS, learner
from tests.learner.runs import SMALL, all_gone, is_fork_server
from tests.ports import free_port
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow]

AT_ONCE_SECONDS = 5.0


@pytest.mark.parametrize(
    ("place", "process", "learner_lives"),
    [
        ("training", "learner_proc0 failed", False),
        ("batcher", "the batcher in learner_proc0 failed", False),
        ("rollout worker", "rollout_proc0 failed", True),
        ("inference worker", "inference_proc0-0 failed", True),
        ("main process", "the run's main process failed", False),
    ],
)
def test_an_exception_in_any_process_ends_the_run_at_once(
    settings: Settings, tmp_path: Path, place: str, process: str, learner_lives: bool
) -> None:
    variables = {"FAILS_IN": place, "FAILS_WHEN": str(tmp_path / "now")}
    module = "tests.chaos.failing_learner"
    flags = ("--inference", "central") if place == "inference worker" else ()
    with learner(settings, "a-run", *flags, module=module, variables=variables) as run:
        run.wait_for_line("ready: ")
        processes = run.tree()
        (tmp_path / "now").touch()
        assert run.process.wait(AT_ONCE_SECONDS + BUSY_SECONDS) == 2
        assert run.last_line().startswith(f"onibus: {process}: RuntimeError: {REASON}; ")
        wait_until(all_gone(processes), 5, "no process left")
    saved = newest_checkpoint(settings.runs_dir / "a-run")
    assert (saved is not None) == learner_lives, "a learner that lives saves what it has"
    assert ("--resume" in run.last_line()) == learner_lives


def test_a_killed_fork_server_ends_the_run_and_is_named(settings: Settings) -> None:
    with learner(settings, "a-run") as run:
        run.wait_for_line("ready: ")
        processes = run.tree()
        server = next(filter(is_fork_server, processes[0].children()))
        server.kill()
        assert run.process.wait(AT_ONCE_SECONDS + BUSY_SECONDS) == 2
        assert "the process that all workers are forked from was killed" in run.last_line()
        wait_until(all_gone(processes), 10, "no process left")


def test_an_exception_before_anything_is_learned_ends_the_run_at_once(
    settings: Settings, tmp_path: Path
) -> None:
    variables = {"FAILS_IN": ONCE, "FAILS_WHEN": str(tmp_path / "now")}
    module = "tests.chaos.failing_learner"
    with learner(settings, "a-run", module=module, variables=variables) as run:
        run.wait_for_workers(1)
        processes = run.tree()
        (tmp_path / "now").touch()
        assert run.process.wait(60) == 2
        assert run.last_line() == (
            f"onibus: learner_proc0 failed: RuntimeError: {REASON}; there is no checkpoint of it yet"
        )
        wait_until(all_gone(processes), 5, "no process left")


def test_a_broker_that_goes_when_the_child_processes_come_ends_the_run_without_a_traceback(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "broker"
    broker = start_broker(BrokerOptions(folder, port=free_port(), heap="256m"))
    try:
        settings = load_settings(**broker.client_settings(), runs_dir=tmp_path, partitions=2)
        create_topics(settings)
        with learner(settings, "a-run") as run:
            run.wait_for_workers(1)
            stop_broker(folder)
            assert run.process.wait(180) == 2
            assert run.last_line().startswith("onibus: learner_proc0 failed: ")
            assert "Traceback" not in run.text()
    finally:
        stop_broker(folder)


def test_a_run_that_is_stopped_before_it_learns_ends_cleanly_and_soon(settings: Settings) -> None:
    with learner(settings, "a-run") as run:
        run.wait_for_workers(2)
        processes = run.tree()
        assert run.stop() < STOP_SECONDS + BUSY_SECONDS
        assert run.process.returncode == 0, run.text()
        wait_until(all_gone(processes), 5, "no process left")


def test_little_shared_memory_is_named_and_what_to_do(settings: Settings) -> None:
    with_little = 'mount -t tmpfs -o size=6m tmpfs /dev/shm && exec "$@"'
    probe = subprocess.run(["unshare", "--mount", "sh", "-c", with_little, "sh", "true"], check=False)
    if probe.returncode != 0:
        pytest.skip("no mount of its own is permitted here (unshare --mount)")
    command = [sys.executable, "-m", "onibus", "learn", "--run", "a-run", *SMALL, "--network", "full"]
    result = subprocess.run(
        ["unshare", "--mount", "sh", "-c", with_little, "sh", *command],
        env=os.environ | environment_of(settings) | {"CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 2
    line = result.stderr.strip().splitlines()[-1]
    assert "/dev/shm of 6 MB is too small" in line
    assert "--shm-size" in line


def test_on_a_full_disk_a_run_goes_on_says_so_once_and_stops(settings: Settings) -> None:
    folder = settings.runs_dir / "a-run"
    with learner(settings, "a-run", "--checkpoint-seconds", "1") as run:
        run.wait_for_line("ready: ")
        wait_until(lambda: read_history(folder), 30, "a first row")
        rows = len(read_history(folder))
        run.let_no_file_grow()
        run.wait_for_line(f"cannot write {folder / 'history.jsonl'}")
        run.wait_for_line("cannot write TensorBoard's files")
        run.wait_for_line("cannot write checkpoints")
        lines = run.text().count(" steps, ")  # one each ten seconds, of as many tries to write rows
        wait_until(lambda: run.text().count(" steps, ") > lines, 60, "the run to go on")
        processes = run.tree()
        assert run.stop() < STOP_SECONDS + BUSY_SECONDS
        wait_until(all_gone(processes), 5, "no process left")
    assert run.process.returncode == 2, "what was learned last is lost"
    assert "could not be written as a checkpoint (File too large)" in run.last_line()
    for side_file in ("history.jsonl", "captions.json", "checkpoints", f"{folder}/tensorboard"):
        said = [line for line in run.lines if "cannot write" in line and side_file in line]
        assert len(said) == 1, (side_file, run.text())
    assert "Traceback" not in run.text()
    assert len(read_history(folder)) >= rows
    assert json.loads((folder / "options.json").read_text())["run"] == "a-run"
