"""Which versions of its parts a run was trained with: another NLE may play another game."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from onibus.infra.files import RowFile

PARTS_FILE = "parts.jsonl"
"""In a run's folder; a row for each time that the run was started."""

_PARTS = ("nle", "minihack", "gymnasium", "sample-factory", "torch", "numpy")


def record_parts(folder: Path, plugins: Mapping[str, str]) -> None:
    """Append the versions in use now and the time, microseconds since the epoch.

    Args:
        folder: of the run.
        plugins: versions of the user's own parts, by module.

    Raises:
        OSError: the file cannot be written.
    """
    row: dict[str, str | int] = {"started_at": time.time_ns() // 1000, "python": platform.python_version()}
    row |= {name: version(name) for name in _PARTS} | dict(plugins)
    file = RowFile(folder / PARTS_FILE)
    try:
        file.append(row)
    finally:
        file.close()
