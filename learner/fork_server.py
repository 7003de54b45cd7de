"""The process that a run's others are forked from: itself a fork of the main process.

Left alone, :mod:`multiprocessing` starts its fork server as a new interpreter, which imports torch, NLE and
Sample Factory a second time: two seconds of processor time and as much of waiting.
"""

from __future__ import annotations

import os
import signal
import socket
from multiprocessing import connection, forkserver, resource_tracker
from typing import Any

from onibus.infra.process.child_start import start_with_blocked
from onibus.learner.child_processes import show_in_process_lists

NAME = "fork-server"
"""Under which process lists show it."""


def fork_the_fork_server() -> None:
    """Make a fork of this process the server of the start method ``forkserver``.

    It has what this process has now: modules and environment variables. Call it before this process has other
    threads, locks or connections. Signals to the whole process group do not reach it.
    """
    start_with_blocked({signal.SIGINT, signal.SIGTERM, signal.SIGHUP}, _start)


def _start() -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        address = connection.arbitrary_address("AF_UNIX")  # type: ignore[attr-defined]
        listener.bind(address)
        os.chmod(address, 0o600)
        listener.listen()
        # Every process of the run has the end for writing; the server ends when it is the last one.
        others_end, ours = os.pipe()
        if (process := os.fork()) == 0:
            os.close(ours)
            _serve(listener.detach(), others_end)
        os.close(others_end)
    known: Any = forkserver._forkserver
    known._forkserver_address, known._forkserver_alive_fd, known._forkserver_pid = address, ours, process


def _serve(listener: int, alive: int) -> None:
    """In the fork: serve until the run's processes have ended; never returns."""
    code = 1
    try:
        show_in_process_lists(NAME)
        tracker: Any = resource_tracker._resource_tracker
        os.close(tracker._fd)  # the main process waits at its end until no one else has it
        tracker._fd = tracker._pid = None
        forkserver.main(listener, alive, preload=[])
    except SystemExit:
        code = 0
    finally:
        os._exit(code)
