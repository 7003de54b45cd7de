"""Starting processes: what they have of this one's, and which signals reach them."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from pathlib import Path

_STDERR = 2


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


@contextlib.contextmanager
def no_program_inherits_streams() -> Iterator[None]:
    """Programs that are started meanwhile have neither stderr nor the pipe that Python's tracker waits for.

    The one that PyTorch starts to manage shared memory ends two seconds after a run has: so long, whoever
    reads what the run writes would wait for more.
    """
    pipe = resource_tracker.getfd()
    assert pipe is not None, "getfd has it made"
    ours = (_STDERR, pipe)
    before = [os.get_inheritable(descriptor) for descriptor in ours]
    for descriptor in ours:
        os.set_inheritable(descriptor, False)
    try:
        yield
    finally:
        for descriptor, inherited in zip(ours, before, strict=True):
            os.set_inheritable(descriptor, inherited)


def show_in_process_lists(name: str) -> None:
    """Have ``ps``, ``top`` and psutil show this process by name; Linux keeps 15 characters of it."""
    with contextlib.suppress(FileNotFoundError):  # other systems have no such file
        Path("/proc/self/comm").write_text(name)
