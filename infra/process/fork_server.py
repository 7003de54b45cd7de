"""The process that a command's workers are forked from: itself a fork of the main process.

Left alone, :mod:`multiprocessing` starts new interpreters, each of which imports a command's libraries again:
with torch, NLE and Sample Factory two seconds of processor time and 300 MB.
"""

from __future__ import annotations

import atexit
import gc
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any

from onibus.infra.process.child_start import show_in_process_lists, start_with_blocked

NAME = "fork-server"
"""Under which process lists show it."""
_FOR_WORKERS = {signal.SIGINT, signal.SIGHUP}
"""Signals that workers leave to their parent, which stops them in order."""

SERVER_GONE = 255
"""What :mod:`multiprocessing` takes for a worker's exit code, dead or alive, once the server is gone."""

_LONGEST_FOLDER = 80
"""Addresses of sockets may have 107 bytes."""

_has_one = False


def fork_the_fork_server() -> None:
    """Make a fork of this process the server of the start method ``forkserver``.

    It has what this process has now: modules and environment variables. Call it before this process has other
    threads, locks or connections, and before it imports code of the user's, which may have begun any of them.
    Signals to the whole process group do not reach it. Does nothing where there are other threads already.
    """
    global _has_one
    if threading.active_count() > 1:
        return
    start_with_blocked({signal.SIGINT, signal.SIGTERM}, _start)
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


def how_it_died(process: BaseProcess) -> str:
    """What to tell of a worker that ended before it was done."""
    process.join(1.0)
    if process.exitcode == SERVER_GONE:
        return f"{process.name} and the process that it was forked from died: killed, or out of memory"
    return f"{process.name} died with exit code {process.exitcode}; its last lines above say why"


def _begin(name: str, work: Callable[..., None], *arguments: object) -> None:
    show_in_process_lists(name)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, _FOR_WORKERS)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()  # a forked process would draw what the others draw
    work(*arguments)


def _start() -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        usual = tempfile.gettempdir()
        folder = tempfile.mkdtemp(
            prefix="onibus-fork-", dir=usual if len(usual) < _LONGEST_FOLDER else "/tmp"
        )
        address = os.path.join(folder, "server")
        listener.bind(address)
        os.chmod(address, 0o600)
        listener.listen()
        # Every process of the run has the end for writing; the server ends when it is the last one.
        others_end, ours = os.pipe()
        if (process := os.fork()) == 0:
            os.close(ours)
            _serve(listener.detach(), others_end, address)
        os.close(others_end)
        atexit.register(shutil.rmtree, folder, ignore_errors=True)  # the server may be killed first
    known: Any = forkserver._forkserver
    known._forkserver_address, known._forkserver_alive_fd, known._forkserver_pid = address, ours, process


def _serve(listener: int, alive: int, address: str) -> None:
    """In the fork: serve until the run's processes have ended, however they ended; never returns."""
    code = 1
    try:
        show_in_process_lists(NAME)
        tracker: Any = resource_tracker._resource_tracker
        os.close(tracker._fd)  # the main process waits at its end until no one else has it
        tracker._fd = tracker._pid = None
        gc.freeze()  # else each worker looks through all of it for what can be freed, and then has a copy
        forkserver.main(listener, alive, preload=[])
    except SystemExit:
        code = 0
    finally:
        shutil.rmtree(os.path.dirname(address), ignore_errors=True)
        os._exit(code)
