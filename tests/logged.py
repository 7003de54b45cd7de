"""What onibus logged in a test."""

from __future__ import annotations

import logging

import pytest


def logged(caplog: pytest.LogCaptureFixture, by: str = "onibus") -> list[logging.LogRecord]:
    """Records of this logger and those below it: a Kafka client of an earlier test may log at any time."""
    return [record for record in caplog.records if f"{record.name}.".startswith(f"{by}.")]
