"""Metrics of a process tree: must be switched on before prometheus_client is imported."""

from __future__ import annotations

import os
from pathlib import Path

SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable that prometheus_client reads when it is imported."""


def share_between_processes(folder: Path) -> None:
    """Keep the metrics of this process and its children as memory-mapped files in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("*.db"):
        stale.unlink()
    os.environ[SHARED_FOLDER] = str(folder)
