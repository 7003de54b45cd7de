"""Runs on Weights & Biases, without a network: what is kept for its server is the run's history."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
from wandb.proto.wandb_internal_pb2 import Record

from onibus.infra.errors import OnibusError
from onibus.infra.settings import Settings, environment_of
from onibus.learner.options import make_options
from onibus.learner.run_files.history import read_history
from onibus.learner.tracking import ID_FILE, Tracker
from tests.command import run_onibus
from tests.learner.runs import all_gone, checkpoint_of, descendants, start_learner, stop, wait_ready
from tests.waiting import wait_until

_BLOCK, _HEADER = 1 << 15, 7


def records(path: Path) -> Iterator[Record]:
    """What is in wandb's file: blocks of 32 KiB with pieces, each after a checksum, a length and a kind."""
    data, place, whole = path.read_bytes(), _HEADER, b""
    assert data.startswith(b":W&B")
    while place + _HEADER <= len(data):
        if _BLOCK - place % _BLOCK < _HEADER:
            place += _BLOCK - place % _BLOCK
            continue
        size, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        whole += data[place + _HEADER : place + _HEADER + size]
        place += _HEADER + size
        if kind in (1, 4):  # whole, or the last piece
            record = Record()
            record.ParseFromString(whole)
            whole = b""
            yield record


def kept(folder: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows of the history and the configuration that the folder keeps for the server."""
    rows: list[dict[str, Any]] = []
    config: dict[str, Any] = {}
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        for record in records(path):
            kind = record.WhichOneof("record_type")
            if kind == "history":
                items = ((one.key or ".".join(one.nested_key), one.value_json) for one in record.history.item)
                rows.append({name: json.loads(value) for name, value in items if not name.startswith("_")})
            elif kind == "run":
                config |= {one.key: json.loads(one.value_json) for one in record.run.config.update}
    return rows, config


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")


@pytest.mark.usefixtures("offline")
@pytest.mark.integration
def test_rows_options_and_versions_are_kept_and_a_resumed_run_is_the_same(tmp_path: Path) -> None:
    options = make_options("keyroom-s5", run="a-run", seed=7)
    for start in (0, 20):
        tracker = Tracker(options, tmp_path)
        tracker.start()
        for n in range(start, start + 20):
            tracker.add({"env_steps": 10.0 * n, "return": n / 20})
        tracker.close()
    wandb.teardown()  # else its service may still write
    rows, config = kept(tmp_path)
    assert rows == [{"env_steps": 10.0 * n, "return": n / 20} for n in range(40)]
    assert (config["seed"], config["task"]) == (7, "keyroom-s5")
    assert "nle" in config["parts"]
    folders = [path.name for path in tmp_path.glob("wandb/offline-run-*")]
    assert len(folders) == 2
    assert all((tmp_path / ID_FILE).read_text() in name for name in folders)


@pytest.mark.usefixtures("offline")
@pytest.mark.integration
def test_a_service_that_is_gone_ends_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tracker = Tracker(make_options("keyroom-s5", run="a-run"), tmp_path)
    tracker.start()
    tracker._run.finish()
    tracker.add({"env_steps": 1.0})
    tracker.add({"env_steps": 2.0})
    tracker.close()
    assert caplog.text.count("continuing without it") == 1


def test_without_a_login_it_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(OnibusError, match="run wandb login, set WANDB_API_KEY, or set WANDB_MODE=offline"):
        Tracker(make_options("keyroom-s5", run="a-run"), tmp_path).start()


@pytest.mark.slow
def test_a_run_of_the_command_logs_its_history_under_the_same_names(settings: Settings) -> None:
    flags = ("--workers", 1, "--environments", 4, "--batch-size", 256, "--steps", 4000, "--no-captions")
    environment = environment_of(settings) | {"WANDB_MODE": "offline", "CUDA_VISIBLE_DEVICES": ""}
    run = ("learn", "--run", "tracked", "--wandb", *flags)
    done = run_onibus(*run, folder=settings.runs_dir, environment=environment)
    assert done.returncode == 0, done.stderr
    folder = settings.runs_dir / "tracked"
    rows, config = kept(folder)
    history = [{name: value for name, value in row.items() if name != "time"} for row in read_history(folder)]
    assert rows
    assert {"return", "intrinsic_return", "entropy", "policy_loss"} - {"intrinsic_return"} <= rows[-1].keys()
    for row in rows:
        assert {name: value for name, value in row.items() if name != "time"} in history
    assert config["steps"] == 4000
    nowhere = environment | {"WANDB_MODE": "online", "HOME": str(settings.runs_dir)}
    refused = run_onibus(*run[:2], "other", *run[3:], folder=settings.runs_dir, environment=nowhere)
    assert "no one is logged in" in the_one_line_after_logs(refused.stderr)


def the_one_line_after_logs(errors: str) -> str:
    """The error at the end of what the learner logged."""
    return errors.strip().splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_leaves_no_process_of_wandb(
    settings: Settings, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("WANDB_SERVICE", raising=False)  # that of this process, if a test has started it
    learner = start_learner(settings, "tracked", "--wandb", "--no-captions")
    wait_ready(learner)
    processes = descendants(learner)
    assert any("wandb-core" in " ".join(process.cmdline()) for process in processes)
    assert stop(learner, number) == (0 if number is signal.SIGTERM else -signal.SIGKILL)
    wait_until(all_gone(processes), 15)
    if number is signal.SIGTERM:
        rows, _ = kept(settings.runs_dir / "tracked")
        assert rows[-1]["env_steps"] == checkpoint_of(settings.runs_dir / "tracked")["env_steps"]
