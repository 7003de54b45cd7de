"""What a run's processes are forked from: a fork of the main process, with what that has imported."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.waiting import wait_until

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
    print(server != os.getpid(), open(f"/proc/{server}/comm").read().strip(), *rest, flush=True)
    for argument in sys.argv[1:]:
        os.kill({"kill": os.getpid(), "kill the server": server}[argument], 9)
"""


@pytest.mark.parametrize(
    ("arguments", "code"),
    [((), 0), (("kill",), -9), (("kill the server",), 0)],
    ids=["an ordinary end", "kill -9", "kill -9 of the server"],
)
def test_workers_are_forks_of_a_fork_of_the_main_process_that_ends_with_it(
    arguments: tuple[str, ...], code: int, tmp_path: Path
) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    with tempfile.TemporaryDirectory(dir="/tmp") as temporary:
        done = run_program(tmp_path, temporary, *arguments)
        assert (done.stdout, done.returncode) == ("True fork-server True 1 None\n", code)
        assert "Traceback" not in done.stderr
        wait_until(lambda: not os.listdir(temporary), 20, "the server's end")


def test_a_long_name_of_the_folder_for_temporary_files_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    (temporary := tmp_path / ("t" * 90)).mkdir()
    done = run_program(tmp_path, str(temporary))
    assert (done.stdout, done.stderr, done.returncode) == ("True fork-server True 1 None\n", "", 0)


def run_program(folder: Path, temporary: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "program.py", *arguments],
        cwd=folder,
        env=os.environ | {"TMPDIR": temporary},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
