"""What a run tells while it learns: a history file, metrics, TensorBoard, W&B, a line now and then."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections import deque
from pathlib import Path

import psutil

from onibus.infra.files import RowFile, SideFile
from onibus.infra.observability import metrics
from onibus.learner.options import LearnOptions
from onibus.learner.run_files.history import EPISODE_STATISTICS, HISTORY_FILE, last_seconds
from onibus.learner.run_supervisor import RunState
from onibus.learner.scalar_log import ScalarLog
from onibus.learner.tracking import Tracker
from onibus.producers.environments.caption_wrapper import STATISTIC_PREFIX

log = logging.getLogger(__name__)

SPEED_SECONDS = 10.0
LINE_SECONDS = 10.0
HISTORY_SECONDS = 1.0
MANY_CAPTIONS, STEPS_PER_CAPTION = 1_000, 20
"""Distinct captions from which on a run is warned, and steps per one: random play of NetHack has a new one
every 54 steps, less often as it goes on."""


class RunProgress:
    """Turns the states of a run into its history; one JSON object a line, about one a second."""

    def __init__(self, options: LearnOptions, folder: Path) -> None:
        self._options, self._folder = options, folder
        self._speed: deque[tuple[float, int]] = deque()
        self._seconds_before = last_seconds(folder)
        self._began: float | None = None
        self._next_line = self._next_history = 0.0
        self._ready = self._warned = False
        self.last: dict[str, float] = {}

    def __enter__(self) -> RunProgress:
        self._rows = RowFile(self._folder / HISTORY_FILE)
        self._history = SideFile(f"{self._folder / HISTORY_FILE}")
        self._board = ScalarLog(self._folder / "tensorboard")
        self._tracker = Tracker(self._options, self._folder)
        if self._options.wandb:
            self._tracker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._rows.close()
        self._board.close()
        self._tracker.close()

    def watch(self, state: RunState) -> None:
        """Take note of a state; called about twice a second."""
        now = time.monotonic()
        if now < self._next_history:
            return
        self._next_history = now + HISTORY_SECONDS
        known = self._record(state, now)
        self._warn_of_ever_new_captions()
        if not self._ready:
            self._ready = True
            log.info("ready: run %s learns %s", self._options.run, self._options.task)
        if now >= self._next_line:
            self._next_line = now + LINE_SECONDS
            log.info("%s", _line(self.last))
            self._to_board(known)

    def _warn_of_ever_new_captions(self) -> None:
        """Say once that most captions are new: each is judged, and paid for, by itself."""
        distinct, steps = self.last.get("captions_distinct", 0.0), self.last["env_steps"]
        if not self._warned and distinct >= MANY_CAPTIONS and steps < STEPS_PER_CAPTION * distinct:
            self._warned = True
            log.warning(
                "%s distinct captions in %s steps: each is judged by itself, so most are met before they "
                "have a label; have the captioner leave out numbers and names, or use fewer words",
                *(f"{distinct:,.0f}", f"{steps:,.0f}"),
            )

    def finish(self, state: RunState) -> None:
        """Take note of the state in which a run ended, however soon that is after the one before."""
        if state.env_steps:
            self._to_board(self._record(state, time.monotonic()))

    def _record(self, state: RunState, now: float) -> dict[str, float]:
        """Append a row to the history; what of it is known."""
        self._began = self._began or now
        self.last = self._row(state, now)
        known = {k: v for k, v in self.last.items() if not math.isnan(v)}
        self._history.attempt(lambda: self._rows.append(known))
        for name in _GAUGES.keys() & known.keys():
            _GAUGES[name].set(known[name])
        return known

    def _to_board(self, known: dict[str, float]) -> None:
        for name, value in known.items():
            self._board.add_scalar(f"onibus/{name}", value, int(self.last["env_steps"]))
        self._board.flush()
        self._tracker.add(known)

    def _row(self, state: RunState, now: float) -> dict[str, float]:
        self._speed.append((now, state.env_steps))
        while self._speed[0][0] < now - SPEED_SECONDS:
            self._speed.popleft()
        then, steps = self._speed[0]
        elapsed = now - then
        row = {
            "time": time.time(),
            "seconds": self._seconds_before + now - (self._began or now),
            "env_steps": float(state.env_steps),
            "steps_per_second": (state.env_steps - steps) / elapsed if elapsed > 0 else math.nan,
            "cpu_seconds": _cpu_seconds(),
            "episodes_averaged": float(len(state.episodes.get("reward", ()))),
        }
        for theirs, ours in EPISODE_STATISTICS.items():
            values = state.episodes.get(theirs, [])
            row[ours] = sum(values) / len(values) if values else math.nan
        row |= {
            name: sum(values) / len(values)
            for name, values in state.episodes.items()
            if values and name.startswith(STATISTIC_PREFIX)
        }
        return row | state.learner | _counted()


_GAUGES = {
    "env_steps": metrics.ENVIRONMENT_STEPS,
    "steps_per_second": metrics.STEPS_PER_SECOND,
    "return": metrics.EXTRINSIC_RETURN,
    "intrinsic_return": metrics.INTRINSIC_RETURN,
    "intrinsic_reward": metrics.INTRINSIC_REWARD,
    "label_coverage": metrics.LABEL_COVERAGE,
    "label_age_seconds": metrics.LABEL_AGE_SECONDS,
    "labels_known": metrics.LABELS_KNOWN,
    "model_version": metrics.MODEL_VERSION,
    "model_age_seconds": metrics.MODEL_AGE_SECONDS,
    "model_age_labels": metrics.MODEL_AGE_LABELS,
    "unscored": metrics.UNSCORED,
    "score": metrics.EPISODE_SCORE,
    "depth": metrics.EPISODE_DEPTH,
    "experience_level": metrics.EPISODE_EXPERIENCE_LEVEL,
    "gold": metrics.EPISODE_GOLD,
    "turns": metrics.EPISODE_TURNS,
    "success": metrics.EPISODE_SUCCESS,
    "died": metrics.EPISODE_DEATHS,
    "scout": metrics.EPISODE_SCOUT,
    "kills": metrics.EPISODE_KILLS,
    "progression": metrics.EPISODE_PROGRESSION,
}

_COUNTERS = {
    "onibus_captions_published_total": "captions_published",
    "onibus_captions_new_total": "captions_new",
    "onibus_captions_dropped_total": "captions_dropped",
    "onibus_episodes_published_total": "episodes_published",
    "onibus_episodes_dropped_total": "episodes_dropped",
}


def _counted() -> dict[str, float]:
    """The rollout workers' counters, summed over their processes."""
    counted = dict.fromkeys(_COUNTERS.values(), 0.0)
    for family in metrics.registry().collect():
        for sample in family.samples:
            if sample.name in _COUNTERS:
                counted[_COUNTERS[sample.name]] += sample.value
    return counted


def _cpu_seconds() -> float:
    """CPU time of this process and its children so far, user and system, those that have ended included."""
    me = psutil.Process()
    ended = me.cpu_times()
    total: float = ended.children_user + ended.children_system
    for process in (me, *me.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def _line(row: dict[str, float]) -> str:
    def shown(name: str, form: str) -> str:
        value = row.get(name, math.nan)
        return "-" if math.isnan(value) else format(value, form)

    model = f", model version {row['model_version']:.0f}" if "model_version" in row else ""
    return (
        f"{shown('env_steps', ',.0f')} steps, {shown('steps_per_second', ',.0f')}/s, "
        f"return {shown('return', '.3f')}, intrinsic return {shown('intrinsic_return', '.3f')}, "
        f"captions {shown('captions_published', ',.0f')} published, "
        f"{shown('captions_dropped', ',.0f')} dropped, "
        f"labels {shown('labels_known', ',.0f')}, labelled {shown('label_coverage', '.0%')}{model}"
    )
