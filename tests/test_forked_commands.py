"""Commands as forks are the same as commands that are started."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from onibus.infra.broker import RunningBroker
from tests.command import REPOSITORY, OnibusProcess, run_onibus
from tests.forked_commands import Forked, _server, can_be_forked
from tests.learner.runs import all_gone
from tests.ports import free_port
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

COMMANDS: dict[str, list[str]] = {
    "nothing": [],
    "good": ["access", "roles", "--json"],
    "help": ["labels", "list", "--help"],
    "heavy": ["replay", "train", "--help"],
    "a table": ["spec", "check", "goals"],
    "no such command": ["no-such-command"],
    "wrong flag": ["topics", "check", "--no-such-flag"],
    "refused": ["broker", "status"],
    "refused late": ["annotate", "--spec", "no-such-spec"],
    "no run": ["evaluate", "that"],
    "no reward": ["learn", "--reward", "praise"],
    "no file": ["compare", "this", "that"],
}

STATE = """
import atexit, json, os, random, signal, sys, threading

PASSING = ("PYTEST_CURRENT_TEST", "PROMETHEUS_MULTIPROC_DIR")
main = sys.modules["__main__"]
print(json.dumps({
    "folder": os.getcwd(),
    "variables": {n: v for n, v in os.environ.items() if n not in PASSING},
    "arguments": [sys.argv, sys.orig_argv, sys.path, main.__name__, main.__spec__.name],
    "signals": [getattr(h, "__name__", str(h)) for h in map(signal.getsignal, (1, 2, 3, 13, 15, 17))],
    "blocked": [*signal.pthread_sigmask(signal.SIG_BLOCK, ())],
    "group": [os.getpgid(0), os.getsid(0), os.umask(0)],
    "descriptors": len(os.listdir("/proc/self/fd")),
    "threads": threading.active_count(),
    "streams": [(s.encoding, s.errors, s.line_buffering, s.isatty()) for s in (sys.stdout, sys.stderr)],
    "input": sys.stdin.read(),
    "metrics": sys.argv[1] == "learn" and "prometheus_client" in sys.modules,
}))
import numpy
print(random.random(), numpy.random.random())
atexit.register(print, "at exit")
print("to stderr, a line without an end", end="", file=sys.stderr)
raise SystemExit(7)
"""


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS.keys())
def test_a_fork_prints_and_returns_the_same(arguments: list[str], tmp_path: Path) -> None:
    environment = {"COLUMNS": "70", "ONIBUS_RUNS_DIR": "others"}
    forked = run_onibus(*arguments, folder=tmp_path, environment=environment)
    started = run_onibus(*arguments, folder=tmp_path, environment=environment, started=True)
    assert (forked.returncode, forked.stdout, forked.stderr) == (
        started.returncode,
        started.stdout,
        started.stderr,
    )


@pytest.mark.parametrize(
    "command",
    [("annotate", "--llm", "mine:Judge", "--spec", "goals"), ("learn", "--reward", "mine:Reward")],
    ids=lambda command: command[0],
)
def test_a_fork_finds_the_same_around_it(command: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(STATE)

    def said(*, started: bool) -> tuple[subprocess.CompletedProcess[str], dict[str, object], str]:
        done = run_onibus(*command, folder=tmp_path, environment={"ONIBUS_PARTITIONS": "3"}, started=started)
        found, random, at_exit = done.stdout.splitlines()
        assert at_exit == "at exit"
        return done, json.loads(found), random

    fork, found, random = said(started=False)
    process, others, _ = said(started=True)
    assert found == others
    assert (fork.returncode, fork.stderr) == (process.returncode, process.stderr)
    assert said(started=False)[2] != random, "each has random numbers of its own"


def test_a_fork_that_takes_too_long_is_killed_and_others_go_on(tmp_path: Path) -> None:
    waits = ("topics", "check", "--bootstrap-servers", f"127.0.0.1:{free_port()}")
    with ThreadPoolExecutor() as pool:
        others = [pool.submit(run_onibus, *waits, folder=tmp_path) for _ in range(2)]
        with pytest.raises(subprocess.TimeoutExpired):
            run_onibus(*waits, folder=tmp_path, timeout=0.5)
        assert [other.result().returncode for other in others] == [2, 2]
    children = psutil.Process(_server(False).process.pid).children()
    wait_until(all_gone(children), 10, "the end of all commands")


def test_a_component_is_a_fork_that_leads_a_session_and_is_signalled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        "import os, signal\nprint(os.getsid(0) == os.getpid())\nsignal.pause()\n"
    )
    log = tmp_path / "log"
    component = OnibusProcess("judge", ("annotate", "--llm", "mine:Judge", "--spec", "goals"), log)
    component.start({})
    try:
        assert isinstance(component.process, Forked)
        wait_until(lambda: log.read_text() == "True\n", 30, "its word")
        component.check()
        with pytest.raises(subprocess.TimeoutExpired):
            component.process.wait(0.01)
    finally:
        component.ask_to_stop()
        assert component.wait_stopped()
    assert component.process.returncode == -signal.SIGTERM


def test_a_command_is_forked_whatever_tests_have_imported_and_started(broker: RunningBroker) -> None:
    """Else from some test on each command is a start, which takes many times as long."""
    for module in ("onibus.learner.training", "onibus.learner.sample_factory", "onibus.infra.broker.jars"):
        importlib.import_module(module)
    for command in ("status", "learn"):
        assert can_be_forked([command], dict(os.environ) | {"PYTHONPATH": str(REPOSITORY)})


def test_what_a_fork_cannot_show_is_started() -> None:
    fixed = dict(_server(False).variables)
    assert can_be_forked(["status"], fixed | {"ONIBUS_PARTITIONS": "3", "CUDA_VISIBLE_DEVICES": "0"})
    assert not can_be_forked(["status"], fixed | {"LC_ALL": "C"})
    assert not can_be_forked(["status"], fixed | {"OMP_NUM_THREADS": "2"})
