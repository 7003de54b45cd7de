"""How a run's child processes are ended."""

from __future__ import annotations

import subprocess
import sys

_ENDING = """
import subprocess, sys, time
from multiprocessing.resource_tracker import ensure_running
from onibus.learner.child_processes import end_children

ensure_running()
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
began = time.monotonic()
end_children()
print(child.poll() is not None, time.monotonic() - began)
"""


def test_ending_children_does_not_wait_for_the_tracker_that_ends_last() -> None:
    done = subprocess.run([sys.executable, "-c", _ENDING], capture_output=True, text=True, timeout=60)
    is_ended, seconds = done.stdout.split()
    assert is_ended == "True"
    assert float(seconds) < 0.9
