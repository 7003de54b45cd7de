"""Runs as they are named on the command line: by name, or by folder."""

from __future__ import annotations

import contextlib
from pathlib import Path

from onibus.infra.errors import OnibusError
from onibus.infra.run_names import MOST_BYTES
from onibus.learner.options import OPTIONS_FILE


def find_run(runs_dir: Path, run: str) -> Path:
    """The folder of ``run``: a name in ``runs_dir``, or a folder.

    Raises:
        OnibusError: there is none; the message names the runs that are there.
    """
    with contextlib.suppress(OSError, ValueError):  # a name that no file can have
        for folder in (Path(run), runs_dir / run):
            if folder.is_dir():
                return folder
    there = sorted(path.parent.name for path in runs_dir.glob(f"*/{OPTIONS_FILE}"))
    names = ", ".join(there) or "none there yet"
    raise OnibusError(f"no run {run[:MOST_BYTES]} in {runs_dir}; give one of: {names}")
