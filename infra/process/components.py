"""Child processes of the demo: started, watched and stopped together.

There is no restart policy: a component that dies stops everything, and its last lines are shown.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from onibus.infra.errors import OnibusError
from onibus.infra.process.parent_death import release, stop_with_this_process

READY_MARK = "ready: "
"""Every component logs a line with this text when it is ready."""

STOP_SECONDS = 10.0
_KILLED_SECONDS = 5.0
"""How long a killed process may take to disappear: it may have gigabytes to free, on a busy machine."""
SHOWN_LINES = 6


class ComponentDiedError(OnibusError):
    """A component ended although no one stopped it; the message has its last lines."""


@dataclass(slots=True)
class Component:
    """One process, its log file, and its state.

    It runs in a session of its own: Ctrl-C and the end of the terminal reach only the supervisor, which then
    stops it in order. If the supervisor is killed, its components are stopped all the same.

    Attributes:
        program: what gets the arguments; by default ``onibus``.
        variables: environment variables for this process only; None removes one.
        is_up: whether a program other than ``onibus`` is ready; ``onibus`` reports it in its log.
        serves_others: whether others need it until they have stopped, as annotators need their model.
        output_path: where its standard output goes instead of into the log.
    """

    name: str
    arguments: Sequence[str]
    log_path: Path
    program: Sequence[str] = (sys.executable, "-m", "onibus")
    variables: Mapping[str, str | None] = field(default_factory=dict)
    is_up: Callable[[], bool] | None = None
    serves_others: bool = False
    output_path: Path | None = None
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    ready: bool = field(default=False, init=False)

    def start(self, environment: Mapping[str, str]) -> None:
        """Start it; its output replaces the content of the log file."""
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        variables = {**os.environ, **environment, "PYTHONUNBUFFERED": "1", **self.variables}
        with self.log_path.open("wb") as log, (self.output_path or Path(os.devnull)).open("wb") as output:
            self.process = subprocess.Popen(
                [*self.program, *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=output if self.output_path else log,
                stderr=log,
                env={name: value for name, value in variables.items() if value is not None},
                start_new_session=True,
            )
        stop_with_this_process(self.process.pid)

    def wait_ready(self, seconds: float, stopping: threading.Event) -> None:
        """Wait until it is ready; returns early if ``stopping`` is set.

        Raises:
            ComponentDiedError: it ended instead.
            OnibusError: it was not ready in time.
        """
        deadline = time.monotonic() + seconds
        while not stopping.is_set():
            if self._is_up():
                self.ready = True
                return
            self.check()
            if time.monotonic() > deadline:
                raise OnibusError(
                    f"{self.name} was not ready within {seconds:.0f} s; see {self.log_path}:\n"
                    f"{self.last_lines()}"
                )
            stopping.wait(0.05)

    def _is_up(self) -> bool:
        if self.is_up is not None:
            return self.is_up()
        return READY_MARK in self.log_path.read_text(errors="replace")

    def check(self) -> None:
        """Raise ComponentDiedError if it has ended."""
        if self.process is not None and (code := self.process.poll()) is not None:
            raise ComponentDiedError(
                f"{self.name} ended with exit code {code}; the rest was stopped. "
                f"Its last lines (all in {self.log_path}):\n{self.last_lines()}"
            )

    def wait_finished(self) -> None:
        """Wait until it has ended by itself.

        Raises:
            OnibusError: it ended with another exit code than 0.
        """
        assert self.process is not None
        if (code := self.process.wait()) != 0:
            raise OnibusError(
                f"{self.name} ended with exit code {code}; its last lines (all in {self.log_path}):\n"
                f"{self.last_lines()}"
            )

    def finished(self) -> bool:
        """Whether it ended by itself with exit code 0."""
        return self.process is not None and self.process.poll() == 0

    def ask_to_stop(self) -> None:
        """Send SIGTERM if it is running."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def wait_stopped(self, seconds: float = STOP_SECONDS) -> bool:
        """Wait for its end, then kill what is left of its session; False if it had to be killed.

        When this returns, none of its processes is running.
        """
        if self.process is None:
            return True
        clean = True
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            clean = False
        with contextlib.suppress(ProcessLookupError):  # the whole session is gone, as it should be
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        release(self.process.pid)
        deadline = time.monotonic() + _KILLED_SECONDS
        while _is_any_left(self.process.pid) and time.monotonic() < deadline:
            time.sleep(0.02)
        return clean

    def last_lines(self, count: int = SHOWN_LINES) -> str:
        """The end of its log, indented."""
        lines = self.log_path.read_text(errors="replace").splitlines() if self.log_path.exists() else []
        return "\n".join(f"    {line}" for line in lines[-count:])


def _is_any_left(group: int) -> bool:
    """Whether a process of this group is running; zombies, which their parent has yet to reap, are not."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                return True
    return False


class Supervisor:
    """The components of one demo, in the order in which they were started."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.components: list[Component] = []

    def start(self, components: Sequence[Component]) -> None:
        """Start several at once; wait for them with :meth:`wait_ready`."""
        for component in components:
            self.components.append(component)
            component.start(self._environment)

    def wait_ready(self, seconds: float, stopping: threading.Event) -> None:
        """Wait until all are ready."""
        for component in self.components:
            if not component.ready:
                component.wait_ready(seconds, stopping)

    def check(self) -> None:
        """Raise ComponentDiedError for the first that has ended."""
        for component in self.components:
            component.check()

    def stop(self, components: Sequence[Component] | None = None) -> list[str]:
        """Stop these (by default all) at the same time, and after them those that serve others.

        Takes at most ``STOP_SECONDS`` for each of the two groups.

        Returns:
            The names of those that had to be killed.
        """
        chosen = [c for c in self.components if components is None or c in components]
        killed = []
        for serving in (False, True):
            stopped = [c for c in chosen if c.serves_others == serving]
            killed += _stop_together(stopped)
            self.components = [c for c in self.components if c not in stopped]
        return killed


def _stop_together(components: Sequence[Component]) -> list[str]:
    """Ask all to stop, then wait for all; returns the names of those that had to be killed."""
    for component in components:
        component.ask_to_stop()
    deadline = time.monotonic() + STOP_SECONDS
    return [c.name for c in components if not c.wait_stopped(max(0.0, deadline - time.monotonic()))]
