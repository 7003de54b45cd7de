"""Waiting for a condition with a deadline, instead of sleeping and hoping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(
    condition: Callable[[], T], timeout: float = 30.0, what: str = "", interval: float = 0.02
) -> T:
    """The first true value of ``condition()``, asked every ``interval`` seconds.

    Raises:
        AssertionError: it was not true within ``timeout`` seconds; ``what`` says what was waited for.
    """
    deadline = time.monotonic() + timeout
    while True:
        if value := condition():
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:g} s for {what or condition}; last value: {value!r}")
        time.sleep(interval)
