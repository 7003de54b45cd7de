"""A test run that is ended, however, leaves no process: a plug-in of pytest."""

from __future__ import annotations

import os

import pytest

from onibus.infra.process.parent_death import stop_with_this_process


def pytest_configure(config: pytest.Config) -> None:
    """Put a process of pytest-xdist and what it starts into a group of their own, which ends with it.

    pytest-xdist kills its processes when a run is interrupted, so that no fixture is torn down.
    """
    if hasattr(config, "workerinput"):
        os.setpgid(0, 0)
        stop_with_this_process(os.getpid())
