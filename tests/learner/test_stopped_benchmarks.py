"""A benchmark that is stopped or killed leaves none of the processes that it started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from onibus.infra.errors import OnibusError
from onibus.infra.kafka.clients import admin
from onibus.infra.process.shutdown import ended_by_signals
from onibus.infra.settings import Settings, environment_of
from onibus.learner.benchmarks.fresh_process import in_a_fresh_process
from tests.waiting import wait_until

STEP_COST = (
    *("step-cost", "--seconds", "300", "--rounds", "2", "--workers", "1", "--environments", "4"),
    *("--task", "keyroom-s5"),
)
ANNOTATORS = ("annotators", "--captions", "100")
PREFIXES = ("bench-steps.", "bench-annotators.")
"""Of their topics."""


def left_over(settings: Settings, older_than: float = 0.0) -> list[str]:
    """Command lines of processes that work in this test's folder, from so many seconds of age on."""
    found = []
    for process in psutil.process_iter():
        try:
            ours = process.environ().get("ONIBUS_RUNS_DIR") == str(settings.runs_dir)
            is_old = time.time() - process.create_time() >= older_than
            if ours and is_old and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


@contextmanager
def begun(settings: Settings, *command: str) -> Iterator[subprocess.Popen[str]]:
    """``onibus bench COMMAND`` on the session's broker, with topics that are deleted afterwards."""
    child = subprocess.Popen(
        [sys.executable, "-m", "onibus", "bench", *command],
        env=os.environ | environment_of(settings),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield child
    finally:
        child.kill()
        child.wait()
        wait_until(lambda: not left_over(settings), 60, "the end of what it started")
        with admin(settings) as client:  # other tests' benchmarks have theirs on the same broker
            own = [name for name in client.list_topics() if name.startswith(PREFIXES)]
            client.delete_topics(own, raise_errors=False)


@pytest.mark.slow
@pytest.mark.parametrize(("command", "child"), [(STEP_COST, " learn "), (ANNOTATORS, " annotate ")])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_a_stopped_benchmark(
    settings: Settings, command: tuple[str, ...], child: str, number: signal.Signals
) -> None:
    with begun(settings, *command) as benchmark:
        # Killed between a start and telling the keeper of it, a benchmark leaves what it has just started.
        wait_until(lambda: any(child in one for one in left_over(settings, older_than=1.0)), 120, child)
        benchmark.send_signal(number)
        code = benchmark.wait(60)
        wait_until(lambda: not left_over(settings), 60, "the end of what it started", interval=0.2)
        assert benchmark.stderr is not None
        if number == signal.SIGTERM:
            assert code == 2
            last = benchmark.stderr.read().strip().splitlines()[-1]
            assert last == "onibus: stopped before its end; nothing was measured"


def test_a_signal_ends_a_block_wherever_it_waits_and_a_second_one_does_not_cut_short_what_follows() -> None:
    before = signal.getsignal(signal.SIGTERM)
    undone = []

    def wait_and_undo() -> None:
        with ended_by_signals("stopped"):
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(60)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)
                undone.append(True)

    with pytest.raises(OnibusError, match="stopped"):
        wait_and_undo()
    assert undone
    assert signal.getsignal(signal.SIGTERM) is before


def test_work_in_a_process_of_its_own_ends_with_a_signal() -> None:
    def work() -> None:
        with ended_by_signals("stopped"):
            signal.setitimer(signal.ITIMER_REAL, 5.0)
            in_a_fresh_process(time.sleep, 600.0)

    began = time.monotonic()
    signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    try:
        with pytest.raises(OnibusError, match="stopped"):
            work()
    finally:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    assert time.monotonic() - began < 60
