"""Metrics of a process tree; must be switched on before prometheus_client is imported."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable that prometheus_client reads when it is imported."""


def share_between_processes() -> None:
    """Keep the metrics of this process and its children in memory-mapped files, removed when it ends."""
    folder = tempfile.mkdtemp(prefix="onibus-metrics-")
    os.environ[SHARED_FOLDER] = folder
    owner = os.getpid()

    def remove() -> None:
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
