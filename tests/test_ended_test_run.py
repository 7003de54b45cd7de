"""A test run that is interrupted or killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.command import REPOSITORY
from tests.learner.runs import all_gone, has_in_command
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

SLEEPS = """
import subprocess, sys
from tests.command import run_onibus

def test_that_takes_long(broker, tmp_path):
    run_onibus("--version", folder=tmp_path)
    subprocess.run([sys.executable, "-c", "import time; time.sleep(600)"])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_ended_test_run_leaves_no_process(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "test_long.py").write_text(SLEEPS)
    plugins = ["-p", "tests.no_orphans", "-p", "tests.shared_brokers"]
    flags = ["-n", "1", *plugins, "-c", os.devnull, "--basetemp", str(tmp_path / "its")]
    run = subprocess.Popen(
        [sys.executable, "-m", "pytest", *flags, tmp_path],
        env=os.environ | {"PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / '.package'}"},
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
    )
    try:
        main = psutil.Process(run.pid)
        wait_until(
            lambda: any(has_in_command(one, "sleep(600)") for one in main.children(True)), 90, "the test"
        )
        family = main.children(recursive=True)
        assert any(has_in_command(one, "tests.forked_commands") for one in family)
        assert any(has_in_command(one, "kafka.Kafka") for one in family)
        assert len(family) >= 6, (
            "a broker, pytest-xdist's process, the keepers, the server of commands, what the test started"
        )
        run.send_signal(number)
        wait_until(all_gone([main, *family]), 40, "the end of all")
    finally:
        run.kill()
        run.wait()
