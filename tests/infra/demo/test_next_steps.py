"""What a demo says at its end about where to look: commands that work as they are."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

import pytest

from onibus.infra.demo.next_steps import next_steps, program
from onibus.infra.settings import DEFAULT_PORT, load_settings


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ONIBUS_RUNS_DIR", raising=False)
    monkeypatch.setenv("PATH", "/usr/bin")


def commands(**given: object) -> dict[str, list[str]]:
    settings = load_settings(**{name: value for name, value in given.items() if name != "own_broker"})
    broker = given.get("own_broker")
    steps = next_steps(settings, "a-run", has_policy=True, own_broker=broker)  # type: ignore[arg-type]
    return {name: shlex.split(command) for name, command in steps}


def test_with_usual_settings_commands_have_no_flags() -> None:
    found = commands(own_broker=(Path("runs/broker"), DEFAULT_PORT))
    assert found["see it play"][1:] == ["watch", "a-run"]
    assert found["report again"][1:] == ["report", "a-run"]
    assert found["the bus again"][1:] == ["broker", "start"]
    assert found["labels, runs, episodes"][1:] == ["web"]
    assert found["TensorBoard"][1:] == ["--logdir", "runs/a-run"]


def test_flags_of_the_demo_are_those_of_the_commands() -> None:
    found = commands(
        runs_dir="my runs", bootstrap_servers="127.0.0.1:19777", own_broker=(Path("my runs/broker"), 19777)
    )
    bus = ["--bootstrap-servers", "127.0.0.1:19777"]
    assert found["see it play"][1:] == ["watch", "a-run", "--runs-dir", "my runs", *bus]
    assert found["measure it"][1:] == ["evaluate", "a-run", "--episodes", "100", "--runs-dir", "my runs"]
    assert found["labels, runs, episodes"][1:] == ["web", "--runs-dir", "my runs", *bus]
    broker = ["broker", "start", "--data-dir", "my runs/broker", "--port", "19777"]
    assert found["the bus again"][1:] == broker


def test_variables_need_no_flags(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ONIBUS_RUNS_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("ONIBUS_BOOTSTRAP_SERVERS", "kafka:9092")
    found = commands(own_broker=None)
    assert found["see it play"][1:] == ["watch", "a-run"]
    assert found["labels, runs, episodes"][1:] == ["web"]
    assert "the bus again" not in found


def test_a_program_is_named_as_the_shell_here_finds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = Path(sys.executable).with_name("onibus")
    assert program("onibus") == str(ours)
    monkeypatch.setenv("PATH", str(ours.parent))
    assert program("onibus") == "onibus"
    assert shutil.which(program("onibus")) == str(ours)
    monkeypatch.chdir(ours.parents[1])
    monkeypatch.setenv("PATH", "/usr/bin")
    assert program("onibus") == "bin/onibus"
