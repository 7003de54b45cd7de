"""Signals to the whole process group: a terminal's Ctrl-C, and SIGTERM from ``timeout`` or Slurm."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from onibus.infra.process.components import READY_MARK
from onibus.infra.settings import Settings, environment_of
from onibus.learner.checkpoints import newest_checkpoint
from tests.command import Running, start_onibus
from tests.learner.runs import all_gone, is_fork_server, workers_among
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

LEARN = (
    "learn",
    "--no-captions",
    "--reward",
    "none",
    "--workers",
    "1",
    "--environments",
    "4",
    "--run",
    "short",
)
ROLLOUT = ("rollout", "--task", "keyroom-s5", "--workers", "2", "--steps", "1000000")


def has_loaded(library: str) -> Callable[[psutil.Process], bool]:
    return lambda process: library in Path(f"/proc/{process.pid}/maps").read_text()


def has_fork_server(process: psutil.Process) -> bool:
    """Whether the process from which workers are forked is there."""
    return any(map(is_fork_server, process.children()))


def has_workers(count: int) -> Callable[[psutil.Process], bool]:
    """Whether so many of a run's workers were started."""
    return lambda process: len(workers_among(process.children(recursive=True))) >= count


@contextmanager
def begun(settings: Settings, *command: str, started: bool = False) -> Iterator[tuple[Running, Path]]:
    """``onibus COMMAND`` in a process group of its own, and its log."""
    log, environment = settings.runs_dir / "log", environment_of(settings) | {"CUDA_VISIBLE_DEVICES": ""}
    with log.open("w") as out:
        running = start_onibus(
            *command, environment=environment, started=started, stdout=out, stderr=out, new_session=True
        )
    try:
        yield running, log
    finally:
        running.kill()
        running.wait()


def children_of(command: Running) -> list[psutil.Process]:
    """Those of its children, too."""
    return psutil.Process(command.pid).children(recursive=True)


@pytest.mark.parametrize(
    ("command", "moment", "started"),
    [
        (LEARN, has_loaded("_pydantic_core"), True),
        (LEARN, has_fork_server, True),
        (LEARN, has_workers(1), False),
        (LEARN, has_workers(2), False),
        (ROLLOUT, has_fork_server, False),
        (ROLLOUT, has_workers(1), False),
        (ROLLOUT, has_workers(2), False),
    ],
    ids=[
        "import",
        "fork server",
        "learner",
        "rollout worker",
        "fork server of rollout",
        "first of rollout",
        "second of rollout",
    ],
)
def test_ctrl_c_during_the_start_leaves_no_traceback_and_no_orphan(
    settings: Settings, command: tuple[str, ...], moment: Callable[[psutil.Process], bool], started: bool
) -> None:
    with begun(settings, *command, started=started) as (process, log):
        seen = psutil.Process(process.pid)
        wait_until(lambda: moment(seen), 60, f"the moment; {log.read_text()}", interval=0.005)
        family = children_of(process)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(30) in (0, 130, -signal.SIGINT), log.read_text()
        assert "Traceback" not in log.read_text()
        wait_until(all_gone(family), 20, "children to end")


def test_a_hang_up_of_every_process_of_a_rollout_ends_it_with_its_summary(settings: Settings) -> None:
    with begun(settings, *ROLLOUT) as (process, log):
        wait_until(lambda: "ready: rollout" in log.read_text(), 90, "a rollout that plays")
        family = children_of(process)
        os.killpg(process.pid, signal.SIGHUP)
        assert process.wait(30) == 0, log.read_text()
        assert "captions and" in log.read_text().splitlines()[-1]
        assert "Traceback" not in log.read_text()
        wait_until(all_gone(family), 20, "children to end")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_every_process_of_a_run_ends_it_with_a_checkpoint(
    settings: Settings, number: signal.Signals
) -> None:
    with begun(settings, *LEARN) as (process, log):
        wait_until(lambda: READY_MARK in log.read_text(), 90, "a run that learns")
        family = children_of(process)
        os.killpg(process.pid, number)
        assert process.wait(30) == 0, log.read_text()
        assert newest_checkpoint(settings.runs_dir / "short") is not None
        assert "Traceback" not in log.read_text()
        wait_until(all_gone(family), 20, "children to end")
