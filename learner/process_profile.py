"""Where a run's processes spend their processor time: a sampling profiler for benchmarks, off otherwise.

A timer of the process's own processor time interrupts it and notes the stack of its main thread. Between two
interrupts nothing is done, so what is measured is what runs without it.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from types import CodeType, FrameType

from onibus.infra.files import write_whole

FOLDER_VARIABLE = "ONIBUS_PROFILE"
"""Environment variable: the folder for profiles. Unset, nothing is profiled."""

TICK_SECONDS = 0.004
WARM_UP_SECONDS = 15.0
"""Of a process's life that are left out: it loads libraries and makes its games."""
SAVE_SECONDS = 3.0
"""A run's processes are killed at its end: what was met since the last save is lost."""
MOST_FRAMES = 60


@dataclass(slots=True)
class Profile:
    """Processor time of one process, after its warm-up.

    Attributes:
        process: its name, such as ``rollout_proc0``.
        main_seconds: of its main thread.
        thread_seconds: of its other threads, by their names.
        stacks: how often each stack of the main thread was met: ``FILE:FUNCTION`` from the outermost, joined
            by semicolons.
    """

    process: str
    main_seconds: float
    thread_seconds: dict[str, float]
    stacks: dict[str, int]


class _Profiler:
    def __init__(self, process: str, folder: Path) -> None:
        self._process, self._path = process, folder / f"{process}.json"
        self._stacks: Counter[str] = Counter()
        self._begins = time.monotonic() + WARM_UP_SECONDS
        self._next_save = self._begins + SAVE_SECONDS
        self._main, self._threads, self._latest = 0.0, Counter[str](), Counter[str]()
        signal.signal(signal.SIGPROF, self._tick)
        signal.setitimer(signal.ITIMER_PROF, TICK_SECONDS, TICK_SECONDS)
        atexit.register(
            signal.setitimer, signal.ITIMER_PROF, 0
        )  # an interpreter that ends handles no signals

    def _tick(self, _number: int, frame: FrameType | None) -> None:
        if time.monotonic() < self._begins:
            self._main, self._threads = time.thread_time(), _thread_seconds()
            return
        names: list[str] = []
        while frame is not None and len(names) < MOST_FRAMES:
            names.append(_name(frame.f_code))
            frame = frame.f_back
        self._stacks[";".join(reversed(names))] += 1
        if time.monotonic() >= self._next_save:
            self._next_save = time.monotonic() + SAVE_SECONDS
            self._save()

    def _save(self) -> None:
        main = time.thread_time() - self._main
        self._latest |= _thread_seconds()  # the larger of each: a thread may have ended
        profile = Profile(self._process, main, dict(self._latest - self._threads), dict(self._stacks))
        write_whole(self._path, json.dumps(asdict(profile)))


@cache
def _name(code: CodeType) -> str:
    return f"{code.co_filename}:{code.co_qualname}".replace(";", ",")


def _thread_seconds() -> Counter[str]:
    """Processor time of this process's threads but the main one, by name."""
    seconds: Counter[str] = Counter()
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and thread.ident is not None:
            clock = time.pthread_getcpuclockid(thread.ident)
            seconds[thread.name] += time.clock_gettime(clock)  # type: ignore[assignment]
    return seconds


def profile_if_asked(process: str) -> None:
    """Profile this process if :data:`FOLDER_VARIABLE` names a folder; call in its main thread."""
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder:
        _Profiler(process, Path(folder))


def read_profiles(folder: Path) -> list[Profile]:
    """The profiles in a folder."""
    return [Profile(**json.loads(path.read_text())) for path in sorted(folder.glob("*.json"))]
