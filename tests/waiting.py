"""Waiting for a condition with a deadline, instead of sleeping and hoping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

MOST_BETWEEN = 0.25
"""Seconds; some tests must see something while it is on its way."""


def wait_until(
    condition: Callable[[], T], timeout: float = 30.0, what: str = "", interval: float = 0.02
) -> T:
    """The first true value of ``condition()``, asked every ``interval`` seconds.

    One that takes long to answer, such as by reading a topic, is asked less often, so that asking takes a
    fifth of the time: what is waited for needs the processor, too.

    Raises:
        AssertionError: it was not true within ``timeout`` seconds; ``what`` says what was waited for.
    """
    deadline = time.monotonic() + timeout
    while True:
        asked = time.monotonic()
        if value := condition():
            return value
        took = time.monotonic() - asked
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:g} s for {what or condition}; last value: {value!r}")
        time.sleep(max(interval, min(4 * took, MOST_BETWEEN)))
