"""``onibus`` commands as forks of a process that has imported what they import.

A real start costs 0.3 to 2 s of processor time: an interpreter, Kafka's client, NumPy, PyTorch. From its
first command on, each process of pytest has a *server*: a fresh interpreter of one thread that has imported
modules and done nothing else. A command is a fork of it, with the call's folder, environment and streams, and
ends as every Python program does. It cannot show what is settled when Python starts or imports a module.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from onibus.infra.cli.main import _COMMANDS

_COMMAND = (
    *(f"onibus.infra.cli.{name}" for name in _COMMANDS),
    *("encodings.idna", "stringprep", "jinja2.sandbox", "psutil", "numpy.random", "kafka", "fastavro"),
    *("rich.markdown", "rich.table", "typer.rich_utils"),
)
_IMPORTED = {
    False: ("httpx", "onibus.consumers.annotator.run", "onibus.consumers.annotator.panel_file", *_COMMAND),
    True: (
        *("nle.nethack", "sample_factory.algo.learning.learner_worker", "sample_factory.algo.runners.runner"),
        *("sample_factory.algo.sampling.rollout_worker", "sample_factory.algo.utils.env_info", *_COMMAND),
    ),
}
"""By whether commands need PyTorch. Then without prometheus_client: runs set what it reads when imported."""
_NEED_TORCH = frozenset({"evaluate", "learn", "replay", "rollout", "train-reward", "watch"})
_READ_LATE = ("ONIBUS_", "COLUMNS", "CLOCK_SECONDS", "CUBLAS_", "CUDA_VISIBLE_DEVICES", "PYTEST_", "WANDB_")
"""How the names of variables begin that no module reads when it is imported."""
_AT_START = dict(os.environ)
_ONE_THREAD = {"OMP_NUM_THREADS": "1"}
"""Else NumPy starts further ones when it is imported, which forks would lack."""
_LONGEST_CALL = 200_000
"""In bytes; Linux takes hardly longer messages."""


class _Server(NamedTuple):
    calls: socket.socket
    process: subprocess.Popen[bytes]
    variables: Mapping[str, str]


def can_be_forked(arguments: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Whether a fork does what a real start would: no variable differs that is read before it runs."""
    return _read_early(environment) == _server_for(arguments).variables


def _read_early(environment: Mapping[str, str]) -> dict[str, str]:
    early = {name: value for name, value in environment.items() if not name.startswith(_READ_LATE)}
    return _ONE_THREAD | early


def run_forked(
    arguments: Sequence[str], folder: Path, environment: Mapping[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """As :func:`subprocess.run` of ``python -m onibus ARGUMENTS``, with its output captured.

    Raises:
        subprocess.TimeoutExpired: it ran for longer than ``timeout`` seconds and was killed.
    """
    call = json.dumps([arguments, str(folder), dict(environment)]).encode()
    (out, its_out), (err, its_err) = os.pipe(), os.pipe()
    ours, its = socket.socketpair()
    socket.send_fds(_server_for(arguments).calls, [call], [0, its_out, its_err, its.fileno()])
    _close(its_out, its_err, its.detach())
    ours.settimeout(timeout)
    with ours, ours.makefile() as report, ThreadPoolExecutor(2) as readers:
        texts = [readers.submit(_read_all, end) for end in (out, err)]
        process = int(report.readline())
        try:
            code = int(report.readline())
        except TimeoutError:
            os.kill(process, signal.SIGKILL)
            raise subprocess.TimeoutExpired(["onibus", *arguments], timeout) from None
        return subprocess.CompletedProcess(arguments, code, *(text.result() for text in texts))


def _read_all(end: int) -> str:
    with open(end, errors="replace") as stream:
        return stream.read()


def _server_for(arguments: Sequence[str]) -> _Server:
    return _server(not _NEED_TORCH.isdisjoint(arguments[:1]))


@functools.cache
def _server(needs_torch: bool) -> _Server:
    """Started for the first call. It ends with this process, the only one that can send it calls."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    environment = _AT_START | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])} | _ONE_THREAD
    command = [sys.executable, "-m", "tests.forked_commands", str(its.fileno()), *["torch"] * needs_torch]
    nothing = subprocess.DEVNULL
    with its:
        process = subprocess.Popen(
            command, cwd="/", env=environment, stdin=nothing, stdout=nothing, pass_fds=[its.fileno()]
        )
    return _Server(ours, process, _read_early(environment))


def _serve(calls: socket.socket) -> None:
    """Fork for every call until no one can call any more; returns in the forks alone."""
    running: dict[int, tuple[int, int]] = {}
    """Process and where it is reported, by the descriptor that becomes readable when it ends."""
    while True:
        with selectors.DefaultSelector() as selector:
            for descriptor in (calls.fileno(), *running):
                selector.register(descriptor, selectors.EVENT_READ)
            ready = selector.select()[0][0].fd
        if ready != calls.fileno():
            process, report = running.pop(ready)
            code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
            with contextlib.suppress(BrokenPipeError):  # it was killed: no one waits any more
                os.write(report, f"{code}\n".encode())
            _close(ready, report)
            continue
        call, streams, _, _ = socket.recv_fds(calls, _LONGEST_CALL, 4)
        if not call:
            for process, _ in running.values():
                os.kill(process, signal.SIGKILL)
            os._exit(0)
        arguments, folder, environment = json.loads(call)
        if (process := os.fork()) == 0:
            for number, stream in enumerate(streams[:3]):
                os.dup2(stream, number)
            _close(calls.detach(), *streams, *running, *(report for _, report in running.values()))
            return _become(arguments, folder, environment)
        os.write(streams[3], f"{process}\n".encode())
        _close(*streams[:3])
        running[os.pidfd_open(process)] = process, streams[3]


def _import(modules: Sequence[str]) -> None:
    for module in modules:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # else a fork looks through all of it when it ends, which takes longer than most commands
    assert len(os.listdir("/proc/self/task")) == 1, "forks have one thread"


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _become(arguments: Sequence[str], folder: str, environment: Mapping[str, str]) -> None:
    """Make this process what Python has made when ``-m onibus ARGUMENTS`` begins."""
    os.chdir(folder)
    by_imports = {n: v for n, v in os.environ.items() if n not in _AT_START}
    os.environ.clear()
    os.environ.update(by_imports | dict(environment))
    sys.path[0] = os.getcwd()
    sys.argv = ["-m", *arguments]
    sys.orig_argv = [sys.executable, "-m", "onibus", *arguments]
    np.random.seed()


if __name__ == "__main__":
    _import(_IMPORTED["torch" in sys.argv])
    _serve(socket.socket(fileno=int(sys.argv[1])))
    runpy.run_module("onibus", run_name="__main__", alter_sys=True)
