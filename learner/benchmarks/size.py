"""A learner with many environments on one machine: does it start, run and stop, and in what memory?"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path

import psutil

from onibus.infra.errors import OnibusError
from onibus.infra.process.components import Component
from onibus.infra.settings import Settings, environment_of
from onibus.learner.benchmarks.result import Figure
from onibus.learner.run_files.history import read_history

START_SECONDS = 420.0
RUN_SECONDS = 30.0
STOP_SECONDS = 10.0
MOST_MEMORY = 6.0
"""GiB, for 480 environments."""


def measure(settings: Settings, task: str, workers: int, environments: int) -> list[Figure]:
    """Start-up, memory and stop of ``workers`` times ``environments`` environments in one run.

    Raises:
        OnibusError: it did not start, did not learn, or did not end cleanly.
    """
    name = f"bench-size-{workers}x{environments}-{time.strftime('%H%M%S')}"
    learner = Component(
        "learner",
        [
            *("learn", "--task", task, "--run", name, "--workers", str(workers)),
            *("--environments", str(environments), "--network", "small"),
        ],
        settings.runs_dir / f"{name}.log",
    )
    began = time.monotonic()
    learner.start(environment_of(settings))
    try:
        learner.wait_ready(START_SECONDS, threading.Event())
        ready = time.monotonic() - began
        time.sleep(RUN_SECONDS)
        learner.check()
        memory, copies, processes = _memory(learner)
    finally:
        began = time.monotonic()
        learner.ask_to_stop()
        clean = learner.wait_stopped(STOP_SECONDS + 5)
        stopped = time.monotonic() - began
    if not clean or learner.process is None or learner.process.returncode != 0:
        raise OnibusError(f"the learner did not stop cleanly; its last lines:\n{learner.last_lines()}")
    steps = read_history(settings.runs_dir / name)[-1]["env_steps"]
    return [
        Figure("environments", workers * environments, "environments"),
        Figure("processes", processes, "processes"),
        Figure("from start to the first training step", ready, "s"),
        Figure(f"steps in {RUN_SECONDS:.0f} s", steps, "steps"),
        Figure("memory of the processes, not shared", memory / 2**30, "GiB"),
        Figure("the games' copies of NetHack's library", copies / 2**30, "GiB"),
        Figure.at_most("both together", (memory + copies) / 2**30, "GiB", MOST_MEMORY),
        Figure.at_most("clean stop with a checkpoint", stopped, "s", STOP_SECONDS),
    ]


def _memory(learner: Component) -> tuple[int, int, int]:
    """Unshared resident bytes of the process tree, bytes of NetHack's copies, and number of processes."""
    assert learner.process is not None
    root = psutil.Process(learner.process.pid)
    processes = [root, *root.children(recursive=True)]
    return sum(p.memory_full_info().uss for p in processes), sum(map(_copies, processes)), len(processes)


def _copies(process: psutil.Process) -> int:
    """Bytes of the files in memory from which a process loads its games: no process's own, but not free."""
    size = 0
    for link in Path(f"/proc/{process.pid}/fd").glob("*"):
        with contextlib.suppress(OSError):
            if os.readlink(link).startswith("/memfd:nle.so"):
                size += link.stat().st_blocks * 512
    return size
