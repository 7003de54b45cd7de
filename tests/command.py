"""The ``onibus`` command as a user runs it: a process with its own folder and environment."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onibus.infra.process.components import Component
from onibus.infra.process.parent_death import stop_with_this_process
from tests.forked_commands import Forked, can_be_forked, run_forked

REPOSITORY = Path(__file__).resolve().parents[1]
Running = subprocess.Popen[Any] | Forked


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
    environment = _clean() | {"COLUMNS": "200", "CLOCK_SECONDS": str(under_clock)} | dict(environment or {})
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


def start_onibus(
    *arguments: object,
    environment: Mapping[str, str],
    module: str = "onibus",
    folder: Path | None = None,
    started: bool = False,
    **streams: Any,
) -> Running:
    """Start ``python -m MODULE ARGUMENTS``, as a fork where that shows the same, and do not wait for it.

    Args:
        started: as for :func:`run_onibus`.
        streams: as for both.
    """
    words, variables = list(map(str, arguments)), _clean() | dict(environment)
    if not started and can_be_forked(words, variables):
        return Forked(words, folder or Path.cwd(), variables, module=module, **streams)
    streams = {"stdin": subprocess.DEVNULL, "text": True, **streams}
    streams["start_new_session"] = streams.pop("new_session", False)
    return subprocess.Popen([sys.executable, "-m", module, *words], cwd=folder, env=variables, **streams)


class OnibusProcess(Component):
    """A component that is a fork where that shows the same."""

    def start(self, environment: Mapping[str, str]) -> None:
        """As of every component."""
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("wb") as log:
            self.process = start_onibus(
                *self.arguments,
                environment={**environment, "PYTHONUNBUFFERED": "1"},
                stdout=log,
                stderr=log,
                text=False,
                new_session=True,
            )
        stop_with_this_process(self.process.pid)


def _clean() -> dict[str, str]:
    clean = {n: v for n, v in os.environ.items() if not n.startswith("ONIBUS_") or n == "ONIBUS_CACHE_DIR"}
    return clean | {"PYTHONPATH": str(REPOSITORY)}


def the_one_line(result: subprocess.CompletedProcess[str]) -> str:
    """The error that a user sees: exit code 2, one line on stderr, no traceback."""
    assert result.returncode == 2, (result.returncode, result.stdout, result.stderr)
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("onibus: ")
    assert "Traceback" not in result.stdout
    return lines[0]
