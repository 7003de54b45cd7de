"""Which versions of its parts a run was trained with: another NLE may play another game."""

from __future__ import annotations

import platform
import time
from importlib.metadata import version
from pathlib import Path

from onibus.infra.files import RowFile

PARTS_FILE = "parts.jsonl"
"""In a run's folder; a row for each time that the run was started."""

_PARTS = ("nle", "minihack", "gymnasium", "sample-factory", "torch", "numpy")


def record_parts(folder: Path) -> None:
    """Append the versions in use now and the time, microseconds since the epoch.

    Raises:
        OSError: the file cannot be written.
    """
    row: dict[str, str | int] = {"started_at": time.time_ns() // 1000, "python": platform.python_version()}
    row |= {name: version(name) for name in _PARTS}
    file = RowFile(folder / PARTS_FILE)
    try:
        file.append(row)
    finally:
        file.close()
