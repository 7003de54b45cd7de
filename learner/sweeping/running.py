"""The runs of a sweep on this machine, so many at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from onibus.infra.errors import OnibusError
from onibus.infra.kafka.topic_admin import require_topics
from onibus.infra.process.components import Component, Supervisor
from onibus.infra.settings import Settings, environment_of
from onibus.learner.options import LearnOptions
from onibus.learner.run_files.run_lock import only_learner_of
from onibus.learner.sweeping.state import check_fits, is_done
from onibus.learner.sweeping.sweep_file import Sweep, learn_arguments

LOOK_SECONDS = 1.0
ANNOTATORS_READY_SECONDS = 120.0

WAITING, RUNNING, DONE, FAILED, ELSEWHERE = "waiting", "running", "done", "failed", "elsewhere"
"""States of a run; one that another process trains is elsewhere, and is looked at again."""


class SweepRunner:
    """Starts runs, looks after them, and stops them all however it is left.

    If this process is killed, its runs save what they have and end; the same sweep goes on from there.

    Attributes:
        states: of each run, by name.
    """

    def __init__(self, settings: Settings, sweep: Sweep, parallel: int, stopping: threading.Event) -> None:
        self._settings, self._sweep, self._parallel, self._stopping = settings, sweep, parallel, stopping
        self._supervisor = Supervisor(environment_of(settings))
        self._learners: dict[str, Component] = {}
        self.states = {options.run: WAITING for options in sweep.runs}

    def folder(self, options: LearnOptions) -> Path:
        """The folder of a run."""
        return self._settings.runs_dir / options.run

    def log_path(self, run: str) -> Path:
        """Where a run's output goes."""
        return self._settings.runs_dir / run / "logs" / "learner.log"

    def run(self, look: Callable[[], None]) -> None:
        """Go on until every run is done or has failed, or ``stopping`` is set.

        Args:
            look: called about once a second.

        Raises:
            OnibusError: a run is there with other options, the bus is away, or annotators ended.
        """
        self._look_at_folders()
        if not self._left():
            return
        if any(options.captions for options in self._sweep.runs):
            require_topics(self._settings, role="learner")
        try:
            annotators = self._start_annotators()
            while self._left() and not self._stopping.is_set():
                self._take_ended()
                self._start_due()
                for component in annotators:
                    component.check()
                look()
                self._stopping.wait(LOOK_SECONDS)
        finally:
            self._supervisor.stop()

    def failures(self) -> list[str]:
        """Names of the runs that failed."""
        return [name for name, state in self.states.items() if state == FAILED]

    def last_lines(self, run: str) -> str:
        """The end of what a run that failed has printed."""
        return self._learners[run].last_lines(2)

    def _left(self) -> bool:
        return any(state not in (DONE, FAILED) for state in self.states.values())

    def _look_at_folders(self) -> None:
        for options in self._sweep.runs:
            check_fits(self.folder(options), options)
            if is_done(self.folder(options), options):
                self.states[options.run] = DONE

    def _start_annotators(self) -> Sequence[Component]:
        if self._sweep.annotators is None:
            return ()
        log = self._settings.runs_dir / f"{self._sweep.name}-annotate.log"
        annotators = Component("annotate", self._sweep.annotators, log)
        self._supervisor.start([annotators])
        self._supervisor.wait_ready(ANNOTATORS_READY_SECONDS, self._stopping)
        return (annotators,)

    def _take_ended(self) -> None:
        for options in self._sweep.runs:
            learner = self._learners.get(options.run)
            if self.states[options.run] != RUNNING or learner is None or learner.process is None:
                continue
            if learner.process.poll() is not None:
                whole = learner.finished() and is_done(self.folder(options), options)
                self.states[options.run] = DONE if whole else FAILED
                self._supervisor.stop([learner])

    def _start_due(self) -> None:
        """Start runs while there is room; those that another process trains are passed over."""
        for options in self._sweep.runs:
            if list(self.states.values()).count(RUNNING) >= self._parallel:
                return
            if self.states[options.run] not in (WAITING, ELSEWHERE):
                continue
            if not _is_free(self.folder(options)):
                self.states[options.run] = ELSEWHERE
            elif is_done(self.folder(options), options):
                self.states[options.run] = DONE
            else:
                name = options.run
                learner = Component(name, learn_arguments(options), self.log_path(name))
                self._learners[name] = learner
                self._supervisor.start([learner])
                self.states[name] = RUNNING


def _is_free(folder: Path) -> bool:
    """Whether no process trains the run: after a kill, its learner may still be saving."""
    try:
        with only_learner_of(folder):
            return True
    except OnibusError:
        return False
