"""Learners that something bad happens to: real processes whose stderr no full disk can hold up."""

from __future__ import annotations

import resource
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import psutil

from onibus.infra.settings import Settings, environment_of
from tests.command import start_onibus
from tests.learner.runs import SMALL, workers_among
from tests.waiting import wait_until

READY_SECONDS = 120.0
STOP_SECONDS = 10.0
BUSY_SECONDS = 5.0
"""More than that for a machine on which other tests run."""


class Learner:
    """A learner whose lines are read from a pipe as they come."""

    def __init__(
        self,
        settings: Settings,
        run: str,
        *flags: str,
        module: str = "onibus",
        variables: Mapping[str, str] | None = None,
    ) -> None:
        environment = environment_of(settings) | {"CUDA_VISIBLE_DEVICES": ""}
        self.process = start_onibus(
            *("learn", "--run", run, *SMALL, *flags),
            module=module,
            environment=environment | dict(variables or {}),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_for_line(self, text: str, seconds: float = READY_SECONDS) -> None:
        """Wait until it has said ``text``; fails if it ended before."""

        def said() -> bool:
            assert self.process.poll() is None or text in self.text(), self.text()
            return text in self.text()

        wait_until(said, seconds, f"{text!r} in {self.lines}")

    def tree(self) -> list[psutil.Process]:
        """Its processes, itself first."""
        me = psutil.Process(self.process.pid)
        return [me, *me.children(recursive=True)]

    def wait_for_workers(self, count: int) -> None:
        """Wait until so many child processes have begun; others, such as git's, come and go before."""
        wait_until(
            lambda: len(workers_among(self.tree())) >= count,
            READY_SECONDS,
            "child processes",
        )

    def let_no_file_grow(self) -> None:
        """From here on no file grows, as on a full disk: any write behind a file's first byte fails."""
        for process in self.tree():
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1, 1))

    def stop(self) -> float:
        """SIGTERM; the seconds until its end."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(STOP_SECONDS + BUSY_SECONDS)
        return time.monotonic() - began

    def text(self) -> str:
        """What it has said so far."""
        return "".join(self.lines)

    def last_line(self) -> str:
        """The last line, once it has ended."""
        self._reader.join(5)
        return self.lines[-1].rstrip()

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.lines.extend(iter(self.process.stderr.readline, ""))

    def _end(self) -> None:
        if self.process.poll() is None:
            for process in reversed(self.tree()):
                process.kill()
        self.process.wait()


@contextmanager
def learner(settings: Settings, run: str, *flags: str, **more: object) -> Iterator[Learner]:
    """A learner that is gone afterwards, with its children."""
    running = Learner(settings, run, *flags, **more)  # type: ignore[arg-type]
    try:
        yield running
    finally:
        running._end()
