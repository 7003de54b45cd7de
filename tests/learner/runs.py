"""Runs of ``onibus learn`` as real processes, for tests."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch

from onibus.infra.process.components import READY_MARK, Component
from onibus.infra.process.fork_server import NAME
from onibus.infra.settings import Settings, environment_of
from tests.command import OnibusProcess, run_onibus
from tests.waiting import wait_until

SMALL = ("--task", "keyroom-s5", "--workers", "1", "--environments", "4", "--batch-size", "256")


def start_learner(settings: Settings, run: str, *flags: str) -> Component:
    """A learner of small size; it is starting when this returns."""
    learner = OnibusProcess(
        "learner", ("learn", "--run", run, *SMALL, *flags), settings.runs_dir / f"{run}.log"
    )
    learner.start(environment_of(settings) | {"CUDA_VISIBLE_DEVICES": ""})
    return learner


def wait_for_line(component: Component, text: str, seconds: float = 90) -> None:
    """Wait until its log has ``text``; fails with the log's end if it ended before."""

    def there() -> bool:
        if text in component.log_path.read_text():
            return True
        component.check()
        return False

    wait_until(there, seconds)


def wait_ready(component: Component) -> None:
    """Wait until it learns."""
    wait_for_line(component, READY_MARK)


def finish(component: Component, seconds: float = 90) -> int:
    """Wait for its own end; the exit code."""
    assert component.process is not None
    return component.process.wait(seconds)


def stop(component: Component, number: signal.Signals = signal.SIGTERM, seconds: float = 15) -> int:
    """Signal it and wait for its end; the exit code."""
    assert component.process is not None
    component.process.send_signal(number)
    return component.process.wait(seconds)


def descendants(component: Component) -> list[psutil.Process]:
    """Its processes, itself first."""
    assert component.process is not None
    me = psutil.Process(component.process.pid)
    return [me, *me.children(recursive=True)]


def all_gone(processes: list[psutil.Process]) -> Callable[[], bool]:
    """Whether none of them runs any more."""
    return lambda: not any(map(_runs, processes))


def has_in_command(process: psutil.Process, text: str) -> bool:
    """Whether its command line has ``text``; False if it has gone."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return text in " ".join(process.cmdline())
    return False


def is_fork_server(process: psutil.Process) -> bool:
    """Whether a run's workers are forked from it; False if it has gone."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.name() == NAME
    return False


def workers_among(processes: list[psutil.Process]) -> list[psutil.Process]:
    """A run's learner, rollout and inference workers: forks of the fork server, which is given, too."""
    return [one for one in processes if _is_forked(one)]


def _is_forked(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = process.parent()
        return parent is not None and is_fork_server(parent)
    return False


def _runs(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):  # gone between the two questions
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def learn_to_the_end(settings: Settings, *flags: str) -> subprocess.CompletedProcess[str]:
    """Run ``onibus learn`` to its end with exactly these flags."""
    environment = environment_of(settings) | {"CUDA_VISIBLE_DEVICES": ""}
    return run_onibus("learn", *flags, folder=Path.cwd(), environment=environment)


def checkpoint_of(folder: Path) -> dict[str, Any]:
    """The content of the newest checkpoint of a run."""
    newest = sorted((folder / "checkpoint_p0").glob("checkpoint_*.pth"))[-1]
    content: dict[str, Any] = torch.load(newest, map_location="cpu", weights_only=True)
    return content
