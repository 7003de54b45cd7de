"""Runs as a user makes them: they end cleanly, they resume, and what is wrong is said in one line."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import nle
import pytest
import torch

from onibus.infra.settings import Settings
from onibus.learner.child_processes import SHARED_MEMORY
from onibus.learner.run_files.history import read_history
from onibus.learner.run_files.parts import PARTS_FILE
from tests.learner.runs import (
    SMALL,
    all_gone,
    checkpoint_of,
    descendants,
    finish,
    learn_to_the_end,
    start_learner,
    stop,
    wait_ready,
    workers_among,
)
from tests.waiting import wait_until


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "inference"),
    [(signal.SIGTERM, "local"), (signal.SIGINT, "local"), (signal.SIGTERM, "central")],
)
def test_a_signal_ends_a_run_with_a_checkpoint_and_no_orphan(
    settings: Settings, number: signal.Signals, inference: str
) -> None:
    learner = start_learner(settings, "stopped", "--inference", inference)
    wait_ready(learner)
    processes = descendants(learner)
    workers = workers_among(processes)
    expected = {"local": 2, "central": 3}  # learner and rollout worker, and an inference worker
    assert len(workers) == expected[inference]
    assert stop(learner, number) == 0
    wait_until(all_gone(processes), 5)
    saved = checkpoint_of(settings.runs_dir / "stopped")
    assert saved["env_steps"] > 0
    assert "Traceback" not in learner.log_path.read_text()


@pytest.mark.slow
def test_what_outlives_a_run_for_a_moment_does_not_keep_its_output_open(settings: Settings) -> None:
    """PyTorch's manager of shared memory does: who reads a run's output would wait for two seconds more."""
    learner = start_learner(settings, "read")
    wait_ready(learner)
    managers = [p for p in descendants(learner) if p.name() == "torch_shm_manager"]
    streams = [file.path for manager in managers for file in manager.open_files()]
    stop(learner)
    assert managers
    assert str(learner.log_path) not in streams


@pytest.mark.slow
def test_a_run_leaves_no_shared_memory_though_pytorchs_manager_of_it_does_nothing(settings: Settings) -> None:
    """As when a sweep or a demo kills it with the rest of the run's session before it could."""
    learner = start_learner(settings, "left")
    wait_ready(learner)
    processes = descendants(learner)
    managers = [process for process in processes if process.name() == "torch_shm_manager"]

    def shared() -> list[Path]:
        return [file for p in processes for file in SHARED_MEMORY.glob(f"torch_{p.pid}_*")]

    assert managers
    assert shared()
    try:
        for manager in managers:
            manager.suspend()
        assert stop(learner) == 0
        assert not shared()
    finally:
        for manager in managers:
            manager.kill()


@pytest.mark.slow
def test_a_resumed_run_goes_on_with_its_steps_and_weights(settings: Settings) -> None:
    folder = settings.runs_dir / "resumed"
    assert finish(start_learner(settings, "resumed", "--steps", "3000")) == 0
    before = checkpoint_of(folder)
    rows_before = len(read_history(folder))
    assert read_history(folder)[-1]["env_steps"] == before["env_steps"], "a short run ends with a row, too"

    refused = learn_to_the_end(settings, "--run", "resumed", *SMALL)
    assert refused.returncode == 2
    assert "--resume" in refused.stderr

    # A learning rate of nothing: whatever weights the resumed run ends with are those it began with.
    flags = ("--resume", "--learning-rate", "1e-30", "--steps", "6000")
    assert finish(start_learner(settings, "resumed", *flags)) == 0
    after = checkpoint_of(folder)
    started_with = [json.loads(line) for line in (folder / PARTS_FILE).read_text().splitlines()]
    assert [row["nle"] for row in started_with] == [nle.__version__] * 2
    assert after["env_steps"] > before["env_steps"]
    assert after["train_step"] > before["train_step"]
    for name, weights in before["model"].items():
        if "returns_normalizer" not in name:  # statistics of rewards, not weights
            torch.testing.assert_close(after["model"][name], weights)
    resumed_rows = read_history(folder)[rows_before:]
    assert all(row["env_steps"] >= before["env_steps"] for row in resumed_rows)
    assert resumed_rows[0]["seconds"] >= read_history(folder)[rows_before - 1]["seconds"]


@pytest.mark.slow
@pytest.mark.parametrize("inference", ["local", "central"])
def test_a_killed_rollout_worker_ends_the_run_and_is_named(settings: Settings, inference: str) -> None:
    learner = start_learner(settings, "bereft", "--inference", inference)
    wait_ready(learner)
    processes = descendants(learner)
    (worker,) = (process for process in processes if process.name() == "rollout_proc0")
    worker.kill()
    assert finish(learner, 30) == 2
    assert "rollout_proc0 died unexpectedly" in learner.last_lines()
    wait_until(all_gone(processes), 5)


@pytest.mark.slow
def test_a_killed_runner_leaves_no_orphan(settings: Settings) -> None:
    learner = start_learner(settings, "killed")
    wait_ready(learner)
    processes = descendants(learner)
    processes[0].kill()
    finish(learner, 10)
    wait_until(all_gone(processes[1:]), 10)


def test_an_unknown_task_is_one_clear_line(settings: Settings) -> None:
    result = learn_to_the_end(settings, "--task", "keyrom-s5", "--run", "x")
    assert result.returncode == 2
    assert "keyrom-s5" in result.stderr
    assert "keyroom-s5" in result.stderr, "close names are offered"
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_machine_without_a_gpu_is_one_clear_line(settings: Settings) -> None:
    refused = learn_to_the_end(settings, "--run", "no-gpu", "--device", "gpu", *SMALL)
    assert refused.returncode == 2
    (line,) = refused.stderr.strip().splitlines()
    assert line == "onibus: this machine has no GPU that torch can use; leave out --device gpu"
    assert not (settings.runs_dir / "no-gpu").exists()


def test_missing_topics_are_one_clear_line(settings: Settings) -> None:
    elsewhere = settings.model_copy(update={"topic_prefix": "nobody-made-these."})
    result = learn_to_the_end(elsewhere, "--task", "keyroom-s5", "--run", "x")
    assert result.returncode == 2
    assert "missing: nobody-made-these.captions" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (settings.runs_dir / "x").exists(), "nothing is left of a run that never began"


@pytest.mark.slow
def test_a_wrong_bootstrap_address_is_one_clear_line(settings: Settings) -> None:
    elsewhere = settings.model_copy(update={"bootstrap_servers": "127.0.0.1:1"})
    result = learn_to_the_end(elsewhere, "--task", "keyroom-s5", "--run", "x")
    assert result.returncode == 2
    assert "127.0.0.1:1" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_a_checkpoint_that_cannot_be_read_is_refused_instead_of_starting_again(settings: Settings) -> None:
    assert finish(start_learner(settings, "torn", "--steps", "500")) == 0
    folder = settings.runs_dir / "torn" / "checkpoint_p0"
    newest = sorted(folder.glob("checkpoint_*.pth"))[-1]
    newest.write_bytes(newest.read_bytes()[:1000])
    result = learn_to_the_end(settings, "--run", "torn", "--resume", *SMALL)
    assert result.returncode == 2
    assert newest.name in result.stderr
