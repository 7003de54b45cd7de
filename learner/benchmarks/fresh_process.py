"""Work in a process of its own, whose memory and processor time are its own, too."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import ParamSpec, TypeVar

from onibus.infra.process.parent_death import end_with_parent

P = ParamSpec("P")
R = TypeVar("R")


def in_a_fresh_process(work: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
    """What ``work`` returns, which can be pickled; the process ends with this one, and if this is stopped."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, initializer=end_with_parent, initargs=(0.0,)) as pool:
        try:
            return pool.submit(work, *arguments, **named).result()
        except BaseException:
            for process in multiprocessing.active_children():
                process.kill()
            raise
