"""Starting processes of :mod:`multiprocessing` that signals to the whole process group do not reach."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable
from multiprocessing import resource_tracker
from pathlib import Path


def start_with_blocked(signals: set[signal.Signals], start: Callable[[], None]) -> None:
    """Call ``start``, which starts a child, with ``signals`` and SIGHUP blocked, a mask that the child keeps.

    A terminal sends SIGINT to every process of a command; ``timeout`` and Slurm send SIGTERM so. Only the
    first process is to act on it: it stops its children in order. Some of them need seconds to import their
    libraries and would end with a traceback.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})  # which the tracker does not ignore
    try:
        resource_tracker.ensure_running()  # started with the first child otherwise, it would unblock others
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def show_in_process_lists(name: str) -> None:
    """Have ``ps``, ``top`` and psutil show this process by name; Linux keeps 15 characters of it."""
    with contextlib.suppress(FileNotFoundError):  # other systems have no such file
        Path("/proc/self/comm").write_text(name)
