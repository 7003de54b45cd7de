"""What tests of replay share: the command in this process and what it printed, the label page as another."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from onibus.infra.cli.main import application
from onibus.infra.errors import OnibusError
from onibus.infra.settings import Settings, environment_of
from tests.command import start_onibus


def invoke(settings: Settings, *arguments: object) -> Result:
    """Run the command in this process, made as it makes itself: its own sub-command alone."""
    typed = list(map(str, arguments))
    return CliRunner().invoke(
        application(typed[:1]), typed, env=environment_of(settings) | {"COLUMNS": "200"}
    )


def exit_code(settings: Settings, *arguments: object) -> int:
    """Run the command; its exit code."""
    return invoke(settings, *arguments).exit_code


def moment() -> str:
    """Now, for ``--as-of``: what is on the log was written before, what comes is written after."""
    time.sleep(0.01)  # the log counts in milliseconds
    now = datetime.now(UTC).isoformat()
    time.sleep(0.01)
    return now


def onibus(settings: Settings, *arguments: object) -> str:
    """Run the command; what it printed. A refusal is raised."""
    result = invoke(settings, *arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def onibus_json(settings: Settings, *arguments: object) -> Any:
    """What it printed with ``--json``."""
    return json.loads(onibus(settings, *arguments, "--json"))


def refusal(settings: Settings, *arguments: object) -> str:
    """The one line with which it refuses."""
    with pytest.raises(OnibusError) as refused:
        onibus(settings, *arguments)
    line = str(refused.value)
    assert "\n" not in line
    return line


def served_labels(settings: Settings, *flags: str) -> AbstractContextManager[str]:
    """``onibus labels serve``; see :func:`served`."""
    return served(settings, "labels", "serve", *flags)


@contextmanager
def served(settings: Settings, *command: str) -> Iterator[str]:
    """A command that serves, as a process of its own; the address that it prints. It must end well."""
    child = start_onibus(
        *(*command, "--port", "0"),
        environment=environment_of(settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert child.stdout is not None
        yield child.stdout.readline().strip()
    finally:
        child.terminate()
        _, errors = child.communicate(timeout=20)
    assert "Traceback" not in errors
    assert child.returncode == 0, errors
