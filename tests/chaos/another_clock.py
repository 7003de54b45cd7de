"""The ``onibus`` command with a clock that is wrong: arguments as for ``onibus``.

``CLOCK_SECONDS`` says by how much it is ahead; an hour if it is not set.
"""

from __future__ import annotations

import os
import time

HOUR = 3_600


def shift(seconds: int) -> None:
    """Set this process's clock ahead; before anything is imported that takes ``time.time`` over."""
    true_time, true_time_ns = time.time, time.time_ns
    time.time = lambda: true_time() + seconds
    time.time_ns = lambda: true_time_ns() + seconds * 1_000_000_000


if __name__ == "__main__":
    shift(int(os.environ.get("CLOCK_SECONDS", HOUR)))

    from onibus.infra.cli.main import main

    main()
