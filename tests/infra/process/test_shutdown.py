"""The end of a terminal is a clean stop for every long-running command, and reaches no child by itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from onibus.infra.broker import broker_status, stop_broker
from onibus.infra.settings import Settings
from tests.command import REPOSITORY
from tests.learner.runs import all_gone, checkpoint_of, descendants, start_learner, wait_ready
from tests.ports import free_port
from tests.waiting import wait_until

WAITING = """
import subprocess, sys
from onibus.infra.process.shutdown import stop_event
stopping = stop_event()
child = subprocess.Popen([sys.executable, "-c", "import time; print('up', flush=True); time.sleep(120)"])
print("ready", flush=True)
stopped = stopping.wait(60)
print("stopped" if stopped else "waited", child.poll(), flush=True)
child.kill()
"""


def waiting(before: str = "") -> subprocess.Popen[str]:
    """A process, in a group of its own, that waits to be stopped; its child waits, too."""
    process = subprocess.Popen(
        [sys.executable, "-c", before + WAITING],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert sorted(process.stdout.readline().strip() for _ in range(2)) == ["ready", "up"]
    return process


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops(number: signal.Signals) -> None:
    process = waiting()
    process.send_signal(number)
    assert process.communicate(timeout=30)[0] == "stopped None\n"


def test_a_hang_up_of_the_whole_group_leaves_children_to_their_parent() -> None:
    process = waiting()
    os.killpg(process.pid, signal.SIGHUP)
    assert process.communicate(timeout=30)[0] == "stopped None\n"


def test_nohup_is_respected() -> None:
    process = waiting("import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n")
    os.killpg(process.pid, signal.SIGHUP)
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)
    process.terminate()
    assert process.communicate(timeout=30)[0] == "stopped None\n"


@pytest.mark.slow
def test_a_learner_whose_terminal_is_closed_saves_a_checkpoint_and_leaves_nothing(settings: Settings) -> None:
    learner = start_learner(settings, "hung-up")
    wait_ready(learner)
    processes = descendants(learner)
    assert learner.process is not None
    os.killpg(learner.process.pid, signal.SIGHUP)
    assert learner.process.wait(30) == 0, learner.last_lines(30)
    assert checkpoint_of(settings.runs_dir / "hung-up")["train_step"] > 0
    wait_until(all_gone(processes), 10, "no process left")
    learner.wait_stopped()


@pytest.mark.slow
def test_a_broker_outlives_the_terminal_that_started_it(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    folder = tmp_path / "broker"
    command = [sys.executable, "-m", "onibus", "broker", "start", "--port", str(free_port())]
    started = subprocess.Popen(
        ["setsid", "--ctty", *command, "--data-dir", str(folder)],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    try:
        assert started.wait(120) == 0
        os.close(theirs)
        os.close(ours)
        status = broker_status(folder)
        assert status is not None
        (pid,) = status.pids
        assert pid is not None
        with pytest.raises(psutil.TimeoutExpired):
            psutil.Process(pid).wait(3)
    finally:
        stop_broker(folder)
