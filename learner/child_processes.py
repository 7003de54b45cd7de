"""Sample Factory's child processes: the first failure of one ends it at once and is reported.

Left alone, a process that raised waits in the interpreter's shutdown for its other threads and stays alive,
so nothing notices. Here whatever is raised, in a slot or in a thread that is :meth:`guarded
<WatchedProcess.guarded>`, goes to the parent through a pipe (a file could not be written on a full disk), and
the process ends without any shutdown.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import multiprocessing
import multiprocessing.connection
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from signal_slot.signal_slot import EventLoopProcess

from onibus.infra.errors import OnibusError
from onibus.infra.files import reason_of
from onibus.infra.process.child_start import show_in_process_lists, start_with_blocked
from onibus.infra.process.fork_server import SERVER_GONE
from onibus.infra.process.parent_death import end_with_parent
from onibus.learner.process_profile import profile_if_asked

_MOST_CHARACTERS = 1_000
"""Of a reason: far less than a pipe holds, so that writing it never blocks."""

BATCHER = "batcher"
"""Name of the thread of a learner's process that puts trajectories together."""

SHARED_MEMORY = Path("/dev/shm")

_EXPECTED = (OnibusError, OSError, MemoryError, torch.OutOfMemoryError)
"""Failures of the surroundings: their message says it all, a traceback nothing more."""


class WatchedProcess(EventLoopProcess):  # type: ignore[misc]
    """A child process with an event loop, whose first failure the parent can ask for."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._reasons, self._report = multiprocessing.Pipe(duplex=False)
        self._reported: str | None = None
        super().__init__(*args, **kwargs)

    def start(self) -> None:
        """See :func:`~onibus.infra.process.child_start.start_with_blocked`."""
        start_with_blocked({signal.SIGINT, signal.SIGTERM}, super().start)

    def __getstate__(self) -> dict[str, Any]:
        """What the child gets: it has no use for the parent's end of the pipe."""
        return {name: value for name, value in self.__dict__.items() if name != "_reasons"}

    def reported(self) -> str | None:
        """In the parent: the first failure that it reported, if any."""
        with contextlib.suppress(EOFError, OSError):
            if self._reported is None and self._reasons.poll(0):
                self._reported = str(self._reasons.recv())
        return self._reported

    def death(self) -> str | None:
        """In the parent: how it ended, unless it lives, ended well or was never started."""
        if self.ident is None or self.is_alive() or not self.exitcode:
            return None
        return f"{self.name} died unexpectedly ({_how_it_ended(self.exitcode)})"

    def report(self, failure: str) -> None:
        """In the child: tell the parent, which takes note of the first report only."""
        with contextlib.suppress(OSError):
            self._report.send(failure[:_MOST_CHARACTERS])

    def guarded(self, name: str, work: Callable[[], None]) -> None:
        """In the child: do ``work``; whatever it raises is reported as of ``name``, and ends the process."""
        try:
            work()
        except BaseException as error:
            self.fail(name, error)

    def fail(self, name: str, error: BaseException) -> None:
        """In the child: report and end, without waiting for any thread."""
        self.report(f"{name} failed: {explain(error)}")
        with contextlib.suppress(Exception):
            if not is_expected(error):
                traceback.print_exception(error)
            sys.stderr.flush()
        os._exit(1)

    def _target(self) -> None:
        end_with_parent(grace_seconds=0)
        np.random.seed()  # a forked process would draw what the others draw
        show_in_process_lists(self.name)
        profile_if_asked(self.name)
        self.guarded(self.name, super()._target)


def is_not_reported(record: logging.LogRecord) -> bool:
    """False for the lines with which event loops announce what :class:`WatchedProcess` reports."""
    return "nhandled exception" not in str(record.msg)


def explain(error: BaseException) -> str:
    """One line: what went wrong and, where something can be done about it, what."""
    reason = reason_of(error)
    if is_about_shared_memory(error):
        return shared_memory_is_full()
    if isinstance(error, torch.OutOfMemoryError):
        first = reason.partition(". ")[0]
        return f"{first}; use a smaller --batch-size or --rollout, or --device cpu"
    if isinstance(error, OSError) and error.filename is not None:
        return f"cannot use {error.filename}: {reason}"
    return reason


def is_expected(error: BaseException) -> bool:
    """Whether a traceback would tell nothing that :func:`explain` does not."""
    return isinstance(error, _EXPECTED) or is_about_shared_memory(error)


def is_about_shared_memory(error: BaseException) -> bool:
    """Whether there was no room left where processes share memory."""
    text = str(error)
    full = getattr(error, "errno", None) == errno.ENOSPC or os.strerror(errno.ENOSPC) in text
    return full and any(mark in text for mark in ("shm", "shared memory", str(SHARED_MEMORY)))


def shared_memory_is_full() -> str:
    """One line that says so and what to do."""
    try:
        size = f" of {shutil.disk_usage(SHARED_MEMORY).total / 1e6:,.0f} MB"
    except OSError:
        size = ""
    return (
        f"{SHARED_MEMORY}{size} is too small for the trajectories that the processes share; give it more "
        "(docker run --shm-size 2g, or shm_size in a compose file), or use fewer --workers or --environments"
    )


def _how_it_ended(exit_code: int) -> str:
    if exit_code == -signal.SIGBUS:
        return f"SIGBUS: {shared_memory_is_full()}"
    if exit_code == -signal.SIGKILL:
        return "SIGKILL: someone sent it, or the machine ran out of memory"
    if exit_code < 0:
        return signal.Signals(-exit_code).name
    if exit_code == SERVER_GONE:
        return "the process that all workers are forked from was killed"
    return f"exit code {exit_code}; its lines above say why"


_END_BY_THEMSELVES = ("resource_tracker", "torch_shm_manager", "wandb-core")
"""Children that end when this process does, after they have freed shared memory, and sent what is left."""


def end_children() -> None:
    """Kill, by id, what is left of this process's children."""
    children = [
        child
        for child in psutil.Process().children(recursive=True)
        if not any(name in " ".join(_command_line(child)) for name in _END_BY_THEMSELVES)
    ]
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    psutil.wait_procs(children, timeout=1.0)


def free_shared_memory(pids: Iterable[int]) -> None:
    """Remove what these processes shared through PyTorch; for processes that share nothing new.

    PyTorch's manager does that, too, unless it is killed with what started the run: then a network's weights
    stayed in memory until the machine was started again.
    """
    for pid in pids:
        for file in SHARED_MEMORY.glob(f"torch_{pid}_*"):
            with contextlib.suppress(PermissionError):  # of a process of that number in another container
                file.unlink(missing_ok=True)


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return []
