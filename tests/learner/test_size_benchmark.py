"""What the size benchmark counts."""

from __future__ import annotations

import psutil
from nle.nethack.nethack import DLPATH

from onibus.learner.benchmarks.size import _copies
from onibus.producers.nethack.tasks import make_task


def test_the_copies_of_nethack_in_memory_are_counted() -> None:
    me = psutil.Process()
    before = _copies(me)
    games = [make_task("score") for _ in range(3)]
    try:
        with open(DLPATH, "rb") as library:
            size = len(library.read())
        assert 3 * size <= _copies(me) - before < 3 * (size + 4096)
    finally:
        for game in games:
            game.close()
    assert _copies(me) == before
