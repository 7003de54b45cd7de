"""Child processes end when their parent is killed; those of others, and those that were released, do not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.command import REPOSITORY
from tests.waiting import wait_until

CHILD = "import time; print('up', flush=True); time.sleep(120)"
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {CHILD}"
WITH_ENGINE = (
    "import subprocess, sys, time; engine = subprocess.Popen([sys.executable, '-c', 'import time; "
    "time.sleep(120)']); print('up', engine.pid, flush=True); time.sleep(120)"
)
PARENT = """
import subprocess, sys, time
from onibus.infra.process import parent_death
child = subprocess.Popen(
    [sys.executable, "-c", sys.argv[1]], start_new_session=True, stdout=subprocess.PIPE, text=True
)
words = child.stdout.readline().split()
parent_death.stop_with_this_process(child.pid)
if "released" in sys.argv:
    parent_death.release(child.pid)
print(child.pid, parent_death._keeper._process.pid, *words[1:], flush=True)
time.sleep(120)
"""
WORKER = """
import multiprocessing, os, sys, time
from onibus.infra.process.parent_death import end_with_parent

def work(pipe):
    assert end_with_parent(float(sys.argv[1]))
    pipe.send(os.getpid())
    time.sleep(120)

if __name__ == "__main__":
    assert not end_with_parent()
    ours, theirs = multiprocessing.Pipe()
    multiprocessing.get_context(sys.argv[2]).Process(target=work, args=(theirs,), daemon=True).start()
    print(ours.recv(), flush=True)
    time.sleep(120)
"""


def killed(command: list[str], number: signal.Signals = signal.SIGKILL) -> list[psutil.Process]:
    """Run a parent that prints process ids, kill it, and return the processes."""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    parent = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        processes = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
        assert processes
        parent.send_signal(number)
        parent.wait(10)
        return processes
    finally:
        parent.kill()
        parent.wait()
        assert parent.stdout is not None
        parent.stdout.close()


def is_gone(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["kill -9", "an ordinary end"])
@pytest.mark.parametrize("child", [CHILD, DEAF, WITH_ENGINE], ids=["", "ignores SIGTERM", "has children"])
def test_programs_end_when_their_parent_does(child: str, number: signal.Signals) -> None:
    processes = killed([sys.executable, "-c", PARENT, child], number)
    assert len(processes) >= 2
    wait_until(lambda: all(map(is_gone, processes)), 30, "the child, its children and the keeper to end")


def test_a_program_that_was_released_stays() -> None:
    child, keeper = killed([sys.executable, "-c", PARENT, CHILD, "released"])
    try:
        wait_until(lambda: is_gone(keeper), 30, "the keeper to end")
        assert not is_gone(child)
    finally:
        child.kill()


@pytest.mark.parametrize("method", ["spawn", "fork"])
@pytest.mark.parametrize("grace", ["0", "5"])
def test_workers_of_multiprocessing_end_when_their_parent_is_killed(
    grace: str, method: str, tmp_path: Path
) -> None:
    script = tmp_path / "parent.py"
    script.write_text(WORKER)
    (worker,) = killed([sys.executable, str(script), grace, method])
    wait_until(lambda: is_gone(worker), 30, "the worker to end")
