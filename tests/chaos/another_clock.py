"""The ``onibus`` command with a clock that is an hour ahead: arguments as for ``onibus``."""

import time

HOUR = 3_600
_time, _time_ns = time.time, time.time_ns
time.time = lambda: _time() + HOUR
time.time_ns = lambda: _time_ns() + HOUR * 1_000_000_000

if __name__ == "__main__":
    from infra.cli.main import main

    main()
