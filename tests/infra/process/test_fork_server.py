"""What a run's processes are forked from: a fork of the main process, with what that has imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.integration]

PROGRAM = """
import multiprocessing, os, sys
from onibus.infra.process.fork_server import fork_the_fork_server

def look(answers):
    variables = [os.environ.get(name) for name in ("SET_BEFORE", "SET_LATER")]
    answers.put((os.getppid(), "colorsys" in sys.modules, *variables))

if __name__ == "__main__":
    import colorsys
    os.environ["SET_BEFORE"] = "1"
    fork_the_fork_server()
    os.environ["SET_LATER"] = "1"
    context = multiprocessing.get_context("forkserver")
    answers = context.Queue()
    workers = [context.Process(target=look, args=(answers,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    seen = {answers.get(timeout=60) for _ in workers}
    for worker in workers:
        worker.join()
    ((server, *rest),) = seen
    print(server != os.getpid(), open(f"/proc/{server}/comm").read().strip(), *rest)
"""


def test_workers_are_forks_of_a_fork_of_the_main_process_which_ends_with_it(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ("True fork-server True 1 None\n", "", 0)
