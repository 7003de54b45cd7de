"""The ``onibus`` command as a user runs it: a process with its own folder and environment."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.forked_commands import can_be_forked, run_forked

REPOSITORY = Path(__file__).resolve().parents[1]


def run_onibus(
    *arguments: object,
    folder: Path,
    environment: Mapping[str, str] | None = None,
    timeout: float = 120.0,
    under_clock: int = 0,
    started: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run ``onibus ARGUMENTS`` in ``folder``, with ``environment`` on top of a clean one.

    Where a fork shows the same, it is one (see :mod:`tests.forked_commands`).

    Args:
        under_clock: by how many seconds its clock is ahead.
        started: as an interpreter of its own, as users start it: so do the tests in
            ``tests/infra/cli/test_command.py``, and every test that is about the start.
    """
    clean = {n: v for n, v in os.environ.items() if not n.startswith("ONIBUS_") or n == "ONIBUS_CACHE_DIR"}
    ours = {"PYTHONPATH": str(REPOSITORY), "COLUMNS": "200", "CLOCK_SECONDS": str(under_clock)}
    environment = clean | ours | dict(environment or {})
    words = list(map(str, arguments))
    if not (started or under_clock) and can_be_forked(words, environment):
        return run_forked(words, folder, environment, timeout)
    program = "tests.chaos.another_clock" if under_clock else "onibus"
    return subprocess.run(
        [sys.executable, "-m", program, *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
        check=False,
    )


def the_one_line(result: subprocess.CompletedProcess[str]) -> str:
    """The error that a user sees: exit code 2, one line on stderr, no traceback."""
    assert result.returncode == 2, (result.returncode, result.stdout, result.stderr)
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("onibus: ")
    assert "Traceback" not in result.stdout
    return lines[0]
