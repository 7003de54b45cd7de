"""Which versions of its parts a run was trained with: another NLE may play another game."""

from __future__ import annotations

import json
import platform
import time
from importlib.metadata import version
from pathlib import Path

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
    with (folder / PARTS_FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
