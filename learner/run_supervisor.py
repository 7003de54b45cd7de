"""Watches a run from its main process: stop requests, limits, failed children, statistics."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from onibus.learner.child_processes import WatchedProcess, end_children, free_shared_memory
from onibus.learner.options import LearnOptions

log = logging.getLogger(__name__)

STATISTICS_KEY = "onibus"
STATISTICS_SECONDS = 1.0
STOP_SECONDS = 7.0
"""Grace before what has not stopped is killed: a clean stop must be over within 10 s."""

LEAVE_SECONDS = 2.0
"""After that the main process, too, has to be gone."""


@dataclass(slots=True)
class RunState:
    """What a run's watcher is told twice a second."""

    env_steps: int
    episodes: dict[str, list[float]]
    learner: dict[str, float]


class RunSupervisor:
    """Looks at a runner twice a second, until :meth:`close`.

    When a child fails, the learner, if it is not that child, saves and stops as at any end; what is left then
    is killed. What is stopped before anything was learned is killed at once.

    Attributes:
        failure: why the run failed, if it did: one line.
    """

    def __init__(
        self,
        runner: Any,
        options: LearnOptions,
        stopping: threading.Event,
        watch: Callable[[RunState], None],
    ) -> None:
        self.failure: str | None = None
        self._runner, self._options, self._stopping, self._watch = runner, options, stopping, watch
        self._started: float | None = None
        self._learner: dict[str, float] = {}
        self._hard_stop: threading.Timer | None = None
        self._left = False
        self._closed = threading.Event()
        runner.policy_msg_handlers[STATISTICS_KEY] = [self._on_statistics]
        runner.supervise_every(STATISTICS_SECONDS / 2, self._tick)

    def state(self) -> RunState:
        """How far the run is."""
        averages = self._runner.policy_avg_stats
        episodes = {key: [float(v) for v in stat[0]] for key, stat in averages.items()}
        return RunState(sum(self._runner.env_steps.values()), episodes, dict(self._learner))

    def close(self) -> None:
        """After the runner's end, however it came: no timer, no child left."""
        self._closed.set()
        if self._hard_stop is not None:
            self._hard_stop.cancel()
        if self.failure is None:
            self.failure = next(filter(None, (process.reported() for process in self._processes())), None)
        end_children()
        free_shared_memory([os.getpid(), *(process.ident for process in self._processes() if process.ident)])

    def _on_statistics(self, _runner: Any, message: dict[str, Any], _policy: int) -> None:
        self._started = self._started or time.monotonic()
        self._learner = message[STATISTICS_KEY]

    def _tick(self) -> None:
        self._note_failures()
        if self._runner.stopped:
            if self.failure and self._learner_is_done():
                self._leave()
            return
        if self.failure:
            self._stop(failed=True)
        elif self._stopping.is_set() or self._time_is_up() or self._return_is_reached():
            self._stop(failed=False)
        if self._started is not None:
            self._watch(self.state())

    def _stop(self, failed: bool) -> None:
        processes = self._processes()
        if processes and (self._started is None or (failed and self._learner_is_done())):
            self._leave()
            return
        self._hard_stop = threading.Timer(STOP_SECONDS, self._give_up)
        self._hard_stop.daemon = True
        self._hard_stop.start()
        self._runner._stop_training(failed=failed)

    def _leave(self) -> None:
        """End without waiting for anyone."""
        self._left = True
        end_children()
        self._runner.stopped = True
        self._runner.event_loop.stop()

    def _give_up(self) -> None:
        """In a thread: the grace is over."""
        if self.failure is None:
            self.failure = f"the run did not stop within {STOP_SECONDS:.0f} s; its processes were killed"
        self._leave()
        if not self._closed.wait(LEAVE_SECONDS):
            log.error("%s; the main process did not stop either", self.failure)
            sys.stderr.flush()
            os._exit(2)

    def _note_failures(self) -> None:
        """Keep the first reason; how a child ends once all have stopped is of no interest."""
        over = self._left or (self._runner.stopped and not self._runner.components_to_stop)
        if self.failure is None and not over:
            found = [p.reported() for p in self._processes()] + [p.death() for p in self._processes()]
            self.failure = next(filter(None, found), None)

    def _learner_is_done(self) -> bool:
        """Whether it has saved and stopped, or cannot any more."""
        learner = next(iter(self._runner.learners.values()))
        waited_for = [component.object_id for component in self._runner.components_to_stop]
        dead = any(not p.is_alive() for p in getattr(self._runner, "processes", ()))
        return dead or (self._runner.stopped and learner.object_id not in waited_for)

    def _processes(self) -> list[WatchedProcess]:
        """Those that were started, the learner's first."""
        sampler = getattr(self._runner, "sampler", None)
        found = [*getattr(self._runner, "processes", ()), *getattr(sampler, "processes", ())]
        return [process for process in found if process.ident is not None]

    def _time_is_up(self) -> bool:
        limit = self._options.seconds
        return limit is not None and self._started is not None and time.monotonic() - self._started >= limit

    def _return_is_reached(self) -> bool:
        goal, returns = self._options.until_return, self._runner.policy_avg_stats.get("reward", [()])[0]
        enough = len(returns) >= self._options.episodes_averaged
        return goal is not None and enough and sum(returns) / len(returns) >= goal
