"""The demo as a user runs it: it ends cleanly however it ends, and says what came of it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
from html import unescape
from pathlib import Path

import psutil
import pytest

from tests.ports import free_port
from tests.run_contents import run_contents
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

SMALL_LEARNER = "--workers 1 --environments 4 --batch-size 256"


class RunningDemo:
    """``onibus demo`` with its files in ``folder``, its output in a file."""

    def __init__(self, folder: Path, port: int, run: str, *more: str, terminal: int | None = None) -> None:
        self.output = folder / f"{run}.out"
        self.folder, self.run = folder, run
        command = [sys.executable, "-m", "onibus", "demo", "--minutes", "10", "--run", run]
        if terminal is not None:  # which is the demo's own, as in a window: setsid makes it so
            command = ["setsid", "--ctty", *command]
        with self.output.open("wb") as out:
            self.process = subprocess.Popen(
                [*command, "--broker-port", str(port), "--learner-args", SMALL_LEARNER, *more],
                env={
                    **os.environ,
                    "ONIBUS_RUNS_DIR": str(folder),
                    "COLUMNS": "200",
                    "TERM": "xterm-256color",
                },
                cwd=folder,
                stdin=terminal,
                stdout=out if terminal is None else terminal,
                stderr=subprocess.STDOUT,
            )

    def watched(self) -> bool:
        """Whether the learner learns and the demo shows it."""
        assert self.process.poll() is None, self.output.read_text()
        return " steps  " in self.output.read_text()

    def learns(self) -> bool:
        """Whether the learner says so in its log."""
        assert self.process.poll() is None
        log = self.folder / self.run / "logs" / "learner.log"
        return log.exists() and "ready: " in log.read_text()

    def left_over(self) -> list[str]:
        """Command lines of processes that work in this demo's folder, the demo itself excepted."""
        found = []
        for process in psutil.process_iter():
            try:
                mine = process.environ().get("ONIBUS_RUNS_DIR") == str(self.folder)
                if mine and process.pid not in (self.process.pid, os.getpid()):
                    found.append(" ".join(process.cmdline()))
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_demo_ends_cleanly_by_ctrl_c_and_names_who_died(tmp_path: Path) -> None:
    port = free_port()
    demo = RunningDemo(tmp_path, port, "first")
    wait_until(demo.watched, 180, "the first line of figures")
    wait_until(lambda: "labels 0" not in demo.output.read_text().splitlines()[-1], 60, "labels")
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(60) == 0, demo.output.read_text()
    said = demo.output.read_text()
    for expected in (
        "labels written in this run",
        "captions that earned most",
        "report.html",
        "Where to look next:",
    ):
        assert expected in said
    (command,) = re.findall(r"see it play +(\S.*)", said)
    environment = os.environ | {"ONIBUS_RUNS_DIR": str(tmp_path)}
    played = subprocess.run(
        f"{command} --episodes 1", shell=True, env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert "game 0: " in played.stdout, played.stderr
    assert {path.name for path in (tmp_path / "first").iterdir()} <= run_contents()
    page = (tmp_path / "first" / "report.html").read_text()
    figures = re.findall(r'<div class="card"><b>(.*?)</b><span>(.*?)</span>', page)
    assert len(figures) >= 6
    told = {line.strip("│ ") for line in said.splitlines()}
    wanted = {f"{unescape(name)} │ {value}" for value, name in figures}
    assert wanted <= {re.sub(r" +│ +", " │ ", line) for line in told}, "the summary has the report's figures"
    wait_until(lambda: not demo.left_over(), 10, "no process left")
    assert port_is_free(port)
    assert not (tmp_path / "demo.lock").exists()

    # Again on the same data: its labels are there already; and an annotator is killed on the way.
    again = RunningDemo(tmp_path, port, "second")
    wait_until(again.watched, 180, "the first line of figures")
    victim = next(p for p in psutil.process_iter(["cmdline"]) if is_annotator(p, tmp_path))
    victim.kill()
    assert again.process.wait(60) == 2
    said = again.output.read_text()
    assert "topics: there already" in said
    assert "annotator-1 ended with exit code -9" in said
    assert "Traceback" not in said
    wait_until(lambda: not again.left_over(), 10, "no process left")
    assert port_is_free(port)


def test_a_demo_whose_terminal_is_closed_stops_as_by_ctrl_c(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    port = free_port()
    demo = RunningDemo(tmp_path, port, "closed", "--annotators", "1", terminal=theirs)
    os.close(theirs)
    with Drained(ours):
        wait_until(demo.learns, 180, "the learner to learn")
        assert len(demo.left_over()) >= 4
    os.close(ours)
    assert demo.process.wait(60) == 0
    assert (tmp_path / "closed" / "report.html").exists()
    assert list((tmp_path / "closed" / "checkpoint_p0").glob("*.pth"))
    wait_until(lambda: not demo.left_over(), 10, "no process left")
    assert port_is_free(port)


def test_kill_9_of_a_demo_leaves_nothing(tmp_path: Path) -> None:
    port = free_port()
    demo = RunningDemo(tmp_path, port, "killed", "--annotators", "1")
    wait_until(demo.learns, 180, "the learner to learn")
    assert len(demo.left_over()) >= 4
    demo.process.kill()
    demo.process.wait()
    wait_until(lambda: not demo.left_over(), 45, "no process left")
    assert port_is_free(port)
    assert list((tmp_path / "killed" / "checkpoint_p0").glob("*.pth")), "the learner was stopped, not killed"


class Drained:
    """Reads the other end of a terminal, so that the program on it does not wait for a reader; prints it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._end = descriptor, threading.Event()
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # the program has ended
            while not self._end.is_set():
                if select.select([self._descriptor], [], [], 0.1)[0]:
                    print(os.read(self._descriptor, 65_536).decode(errors="replace"), end="")


def is_annotator(process: psutil.Process, folder: Path) -> bool:
    try:
        command = process.cmdline()
        return "annotator-1" in command and process.environ().get("ONIBUS_RUNS_DIR") == str(folder)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
