"""How long the machine itself stood still: what a test that measures waiting must not count as waiting."""

from __future__ import annotations

import contextlib
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_WATCH = """
import mmap, struct, sys, time
with open(sys.argv[1], "r+b") as file, mmap.mmap(file.fileno(), 8) as longest:
    last, most = time.monotonic(), 0.0
    while True:
        time.sleep(0.005)
        now = time.monotonic()
        most = max(most, now - last)
        longest[:] = struct.pack("d", most)
        last = now
"""


@contextmanager
def machine_pauses(folder: Path) -> Iterator[Callable[[], float]]:
    """Says for how many seconds at most a process that only sleeps was kept from waking up."""
    file = folder / "pauses"
    file.write_bytes(bytes(8))
    watcher = subprocess.Popen([sys.executable, "-c", _WATCH, str(file)])
    try:
        yield lambda: float(struct.unpack("d", file.read_bytes())[0])
    finally:
        watcher.kill()
        watcher.wait()


def waited_for_processor() -> float:
    """For how many seconds threads of this process were ready to go on while others had the processor."""
    total = 0
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # it has ended
            total += int((thread / "schedstat").read_text().split()[1])
    return total / 1e9
