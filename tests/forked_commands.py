"""``onibus`` commands as forks of a process that has imported what they import.

A real start costs 0.3 to 2 s of processor time: an interpreter, Kafka's client, NumPy, PyTorch. From its
first command on, each process of pytest has a *server*: a fresh interpreter of one thread that has imported
modules and done nothing else. A command is a fork of it, with the call's folder, environment and streams. It
cannot show what is settled when Python starts or imports a module; commands that demos and sweeps start do.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import select
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

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
        *("tensorboard.summary.writer.record_writer", "tensorboardX.summary", "safetensors.torch"),
    ),
}
"""By whether commands need PyTorch. Then without prometheus_client: runs set what it reads when imported."""
_Stream = int | IO[Any] | None
_NEED_TORCH = frozenset({"evaluate", "learn", "replay", "rollout", "train-reward", "watch"})
_READ_LATE = (
    *("ONIBUS_", "COLUMNS", "CLOCK_SECONDS", "CUBLAS_", "CUDA_VISIBLE_DEVICES", "FAILS_", "FIRST_KEY"),
    *("PYTEST_", "PYTHONUNBUFFERED", "WANDB_"),
    *("CRC32C_SW_MODE", "PYGAME_HIDE_SUPPORT_PROMPT", "REQUESTS_CA_BUNDLE"),
)
"""How the names of variables begin that no module reads when it is imported. (What onibus writes is buffered
by lines, whatever Python is told.) The last are set by modules that tests import, to what holds without."""
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


class Forked:
    """A fork that runs a module; used as a :class:`subprocess.Popen` is.

    Args:
        stdin, stdout, stderr: as for Popen; by default nothing comes in and what goes out is this process's.
        text: whether its pipes are text.
        new_session: whether it leads a session of its own.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        *,
        module: str = "onibus",
        stdin: _Stream = subprocess.DEVNULL,
        stdout: _Stream = None,
        stderr: _Stream = None,
        text: bool = True,
        new_session: bool = False,
    ) -> None:
        self.args, self.returncode = [module, *arguments], None
        call = json.dumps([module, arguments, str(folder), dict(environment), new_session]).encode()
        self._report, reported = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with contextlib.ExitStack() as its, reported:
            (self.stdin, its_in), (self.stdout, its_out), (self.stderr, its_err) = (
                _stream(wanted, number, text, its) for number, wanted in enumerate((stdin, stdout, stderr))
            )
            descriptors = [its_in, its_out, its_err, reported.fileno()]
            socket.send_fds(_server_for(arguments).calls, [call], descriptors)
        self.pid = int(self._report.recv(32))

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._report], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            with self._report:
                self.returncode = int(self._report.recv(32))
        return self.returncode

    def communicate(self, text: str = "", timeout: float | None = None) -> tuple[Any, Any]:
        """Give it ``text``, if it has an input; what it writes until its end."""
        deadline = None if timeout is None else time.monotonic() + timeout
        if self.stdin and not self.stdin.closed:
            with contextlib.suppress(BrokenPipeError), self.stdin:
                self.stdin.write(text)
        said: dict[Any, Any] = {}
        streams = [stream for stream in (self.stdout, self.stderr) if stream and not stream.closed]
        readers = [threading.Thread(target=_read, args=(stream, said), daemon=True) for stream in streams]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(_until(deadline))
            if reader.is_alive():
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
        self.wait(_until(deadline))
        return said.get(self.stdout), said.get(self.stderr)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _stream(
    wanted: _Stream, number: int, text: bool, its: contextlib.ExitStack
) -> tuple[IO[Any] | None, int]:
    """Our end of a pipe, if it is to be one, and the descriptor for the fork, closed by ``its``."""
    if wanted is None:
        return None, number
    if wanted == subprocess.DEVNULL:
        return None, its.enter_context(open(os.devnull, "r+b")).fileno()
    if wanted != subprocess.PIPE:
        return None, wanted if isinstance(wanted, int) else wanted.fileno()
    reads, writes = os.pipe()
    ours, others = (writes, reads) if number == 0 else (reads, writes)
    its.callback(os.close, others)
    return open(
        ours, ("w" if number == 0 else "r") + "b" * (not text), errors="replace" if text else None
    ), others


def _read(stream: IO[Any], said: dict[Any, Any]) -> None:
    with stream:
        said[stream] = stream.read()


def _until(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())


def run_forked(
    arguments: Sequence[str], folder: Path, environment: Mapping[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """As :func:`subprocess.run` of ``python -m onibus ARGUMENTS``, with its output captured.

    Raises:
        subprocess.TimeoutExpired: it ran for longer than ``timeout`` seconds and was killed.
    """
    pipe = subprocess.PIPE
    process = Forked(arguments, folder, environment, stdout=pipe, stderr=pipe)
    try:
        said = process.communicate(timeout=timeout)
    finally:
        process.kill()
    return subprocess.CompletedProcess(arguments, process.wait(), *said)


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


def _serve(calls: socket.socket) -> str:
    """Fork for every call until no one can call any more; returns in the forks alone, what each is to run."""
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
                os.write(report, str(code).encode())
            _close(ready, report)
            continue
        call, streams, _, _ = socket.recv_fds(calls, _LONGEST_CALL, 4)
        if not call:
            for process, _ in running.values():
                os.kill(process, signal.SIGKILL)
            os._exit(0)
        module, arguments, folder, environment, new_session = json.loads(call)
        if (process := os.fork()) == 0:
            if new_session:
                os.setsid()
            for number, stream in enumerate(streams[:3]):
                os.dup2(stream, number)
            _close(calls.detach(), *streams, *running, *(report for _, report in running.values()))
            return _become(module, arguments, folder, environment)
        os.write(streams[3], str(process).encode())
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


def _become(module: str, arguments: Sequence[str], folder: str, environment: Mapping[str, str]) -> str:
    """Make this process what Python has made when ``-m MODULE ARGUMENTS`` begins; the module."""
    os.chdir(folder)
    by_imports = {n: v for n, v in os.environ.items() if n not in _AT_START}
    os.environ.clear()
    os.environ.update(by_imports | dict(environment))
    sys.path[0] = os.getcwd()
    sys.argv = ["-m", *arguments]
    sys.orig_argv = [sys.executable, "-m", module, *arguments]
    np.random.seed()
    return module


if __name__ == "__main__":
    _import(_IMPORTED["torch" in sys.argv])
    runpy.run_module(_serve(socket.socket(fileno=int(sys.argv[1]))), run_name="__main__", alter_sys=True)
