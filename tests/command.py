"""The ``onibus`` command as a user runs it: a process with its own folder and environment."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


def run_onibus(
    *arguments: object,
    folder: Path,
    environment: Mapping[str, str] | None = None,
    timeout: float = 120.0,
    under_clock: int = 0,
) -> subprocess.CompletedProcess[str]:
    """Run ``onibus ARGUMENTS`` in ``folder``, with ``environment`` on top of a clean one.

    Its clock is ``under_clock`` seconds ahead.
    """
    program = "tests.chaos.another_clock" if under_clock else "onibus"
    clean = {n: v for n, v in os.environ.items() if not n.startswith("ONIBUS_") or n == "ONIBUS_CACHE_DIR"}
    ours = {"PYTHONPATH": str(REPOSITORY), "COLUMNS": "200", "CLOCK_SECONDS": str(under_clock)}
    return subprocess.run(
        [sys.executable, "-m", program, *map(str, arguments)],
        cwd=folder,
        env=clean | ours | dict(environment or {}),
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
