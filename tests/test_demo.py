"""The demo as a user runs it: it ends cleanly however it ends, and says what came of it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.ports import free_port
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

SMALL_LEARNER = "--workers 1 --environments 4 --batch-size 256"


class RunningDemo:
    """``onibus demo`` with its files in ``folder``, its output in a file."""

    def __init__(self, folder: Path, port: int, run: str, *more: str) -> None:
        self.output = folder / f"{run}.out"
        self.folder, self.run = folder, run
        command = [sys.executable, "-m", "infra.cli", "demo", "--minutes", "10", "--run", run]
        with self.output.open("wb") as out:
            self.process = subprocess.Popen(
                [*command, "--broker-port", str(port), "--learner-args", SMALL_LEARNER, *more],
                env={**os.environ, "ONIBUS_RUNS_DIR": str(folder), "COLUMNS": "200"},
                cwd=folder,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def watched(self) -> bool:
        """Whether the learner learns and the demo shows it."""
        assert self.process.poll() is None, self.output.read_text()
        return " steps  " in self.output.read_text()

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
        "labels paid for in this run",
        "captions that earned most",
        "report.html",
        "checkpoint_p0",
    ):
        assert expected in said
    assert (tmp_path / "first" / "report.html").exists()
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


def is_annotator(process: psutil.Process, folder: Path) -> bool:
    try:
        command = process.cmdline()
        return "annotator-1" in command and process.environ().get("ONIBUS_RUNS_DIR") == str(folder)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
