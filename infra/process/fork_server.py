"""The process that a command's workers are forked from: itself a fork of the main process.

Left alone, :mod:`multiprocessing` starts new interpreters, each of which imports a command's libraries again:
with torch, NLE and Sample Factory two seconds of processor time and 300 MB.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable
from multiprocessing import connection, forkserver, resource_tracker
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any

from onibus.infra.process.child_start import show_in_process_lists, start_with_blocked

NAME = "fork-server"
"""Under which process lists show it."""
_FOR_WORKERS = {signal.SIGINT, signal.SIGHUP}
"""Signals that workers leave to their parent, which stops them in order."""

_has_one = False


def fork_the_fork_server() -> None:
    """Make a fork of this process the server of the start method ``forkserver``.

    It has what this process has now: modules and environment variables. Call it before this process has other
    threads, locks or connections, and before it imports code of the user's, which may have begun any of them.
    Signals to the whole process group do not reach it.
    """
    global _has_one
    start_with_blocked({signal.SIGINT, signal.SIGTERM, signal.SIGHUP}, _start)
    _has_one = True


def worker_context() -> BaseContext:
    """How workers begin: as forks where this process has made the fork server, else as new interpreters."""
    return multiprocessing.get_context("forkserver" if _has_one else "spawn")


def start_worker(
    context: BaseContext, name: str, work: Callable[..., None], *arguments: object, daemon: bool = True
) -> BaseProcess:
    """Start a process that does ``work``; SIGINT and SIGHUP do not reach it, SIGTERM ends it.

    Args:
        context: of :func:`worker_context`.
        name: of the process; Linux shows 15 characters of it in process lists.
        work: a module-level function.
        arguments: for it; they are pickled.
        daemon: as :mod:`multiprocessing` has it.
    """
    process = context.Process(  # type: ignore[attr-defined]
        target=_begin, args=(name, work, *arguments), name=name, daemon=daemon
    )
    assert isinstance(process, BaseProcess)
    start_with_blocked({signal.SIGINT}, process.start)
    return process


def _begin(name: str, work: Callable[..., None], *arguments: object) -> None:
    show_in_process_lists(name)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, _FOR_WORKERS)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()  # a forked process would draw what the others draw
    work(*arguments)


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
