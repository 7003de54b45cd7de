"""Which onibus and which versions of its parts a run was trained with: another NLE may play another game."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from contextlib import closing
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from onibus.infra.files import RowFile, read_rows
from onibus.infra.version import version as onibus_version

PARTS_FILE = "parts.jsonl"
"""In a run's folder; a row for each time that the run was started."""

_PARTS = ("nle", "minihack", "gymnasium", "sample-factory", "torch", "numpy", "kafka-python", "fastavro")


def parts_now() -> dict[str, str]:
    """The versions in use now, onibus's with its commit, and the machine."""
    found = {
        "onibus": onibus_version(),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }
    for name in _PARTS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def record_parts(folder: Path, plugins: Mapping[str, str]) -> None:
    """Append the versions in use now and the time, microseconds since the epoch.

    Args:
        folder: of the run.
        plugins: versions of the user's own parts, by module.

    Raises:
        OSError: the file cannot be written.
    """
    row: dict[str, str | int] = {"started_at": time.time_ns() // 1000}
    with closing(RowFile(folder / PARTS_FILE)) as file:
        file.append(row | parts_now() | dict(plugins))


def parts_of(folder: Path) -> list[dict[str, Any]]:
    """What :func:`record_parts` recorded of the run in ``folder``, the first start first."""
    return read_rows(folder / PARTS_FILE, "started_at")
