"""Records episodes, or plays recorded ones again, in a process whose clock is another one.

``python -m tests.producers.nethack.another_clock record|verify FOLDER``, with the library of another_clock.c
preloaded.
"""

from __future__ import annotations

import calendar
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from onibus.infra.errors import OnibusError
from onibus.producers.nethack.episodes import verify
from onibus.schemas import codec
from onibus.schemas.records import EpisodeFinished
from tests.producers.nethack.playing import Memory, environment, play

TASKS = ("score", "staircase", "gold", "keyroom-s5", "wod-hard-full")
STEPS = 300


def clock_library(folder: Path) -> Path:
    """The library that sets the clock; skips the test where there is no C compiler."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("a simulated clock needs a C compiler and Linux")
    library = folder / "clock.so"
    source = Path(__file__).with_suffix(".c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    return library


def at(date: str, library: Path, *arguments: str | Path) -> str:
    """What this module says when it is run with ``arguments`` at ``date``, UTC there and here."""
    seconds = calendar.timegm(time.strptime(date, "%Y-%m-%d %H:%M"))
    variables = {"LD_PRELOAD": str(library), "CLOCK": str(seconds), "TZ": "UTC"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", __name__, *arguments],
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


def _record(folder: Path, games: int) -> None:
    memory = Memory()
    for task in TASKS:
        env = environment(task, memory, max_episode_steps=STEPS, run=task)
        for seed in range(games // len(TASKS)):
            play(env, seed)
        env.close()
    for record in memory.episodes:
        (folder / f"{record.run}-{record.episode}").write_bytes(codec.encode(record))


def _verify(folder: Path, *, as_before: bool) -> None:
    """Print the episodes that differ; ``as_before``: NetHack looks at the clock, as for old episodes."""
    for file in sorted(folder.iterdir()):
        record = codec.decode(EpisodeFinished, file.read_bytes())
        try:
            verify(replace(record, nle_version="") if as_before else record)
        except OnibusError as error:
            print(error)


if __name__ == "__main__":
    what, where = sys.argv[1:3]
    if what == "record":
        _record(Path(where), int(sys.argv[3]))
    else:
        _verify(Path(where), as_before=what == "verify-as-before")
