"""The runs of a folder as a site shows them: a line for each, and a page with its curves."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onibus.infra.errors import OnibusError
from onibus.infra.files import last_row, read_state, sampled_rows
from onibus.infra.run_names import check_run_name
from onibus.learner.options import OPTIONS_FILE, LearnOptions, load_options
from onibus.learner.reporting.episode_players import Player, kept_players
from onibus.learner.reporting.headline import Figure, headline
from onibus.learner.reporting.report import REPORT_FILE, SYSTEM_FILE
from onibus.learner.reporting.run_charts import Chart, run_charts
from onibus.learner.run_files.history import HISTORY_FILE
from onibus.learner.run_files.judging import kept_judging
from onibus.learner.run_files.versions import kept_versions

MOST_RUNS = 500
"""Runs that are listed, those that changed last."""
RUNNING_SECONDS = 15.0
"""A run whose history is older than this does not learn any more."""
_POINTS = 1_000
_CHARTS_KEPT = 64


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run: the last row of its history, and when that was written, seconds since the epoch."""

    name: str
    task: str
    reward: str
    last: Mapping[str, float]
    changed_at: float

    @property
    def is_running(self) -> bool:
        """Whether it learns now."""
        return time.time() - self.changed_at < RUNNING_SECONDS


@dataclass(frozen=True, slots=True)
class RunPage:
    """What the page of a run shows."""

    row: RunRow
    options: LearnOptions
    figures: list[Figure]
    charts: list[Chart]
    players: list[Player]
    has_report: bool


class Runs:
    """The runs in a folder; what is read of their files is bounded, however long they are."""

    def __init__(self, runs_dir: Path) -> None:
        self._runs_dir = runs_dir
        self._rows: dict[Path, tuple[int, RunRow]] = {}
        self._charts: OrderedDict[tuple[str, str, int], str] = OrderedDict()
        self._drawing = threading.Lock()

    def rows(self) -> list[RunRow]:
        """All of them, the one that changed last first."""
        found = sorted(
            ((_changed(path), path.parent) for path in self._runs_dir.glob(f"*/{OPTIONS_FILE}")), reverse=True
        )[:MOST_RUNS]
        self._rows = {
            folder: self._rows[folder]
            if folder in self._rows and self._rows[folder][0] == changed
            else (changed, _row(folder, changed))
            for changed, folder in found
        }
        return [row for _, row in self._rows.values()]

    def folder(self, name: str) -> Path:
        """The folder of a run.

        Raises:
            OnibusError: there is no such run.
        """
        folder = self._runs_dir / check_run_name(name)
        if not (folder / OPTIONS_FILE).is_file():
            raise OnibusError(f"there is no run {name} in the folder of runs")
        return folder

    def page(self, name: str) -> RunPage:
        """All about one.

        Raises:
            OnibusError: there is no such run, or its options cannot be read.
        """
        folder = self.folder(name)
        options, history = load_options(folder), _numbers(sampled_rows(folder / HISTORY_FILE, _POINTS))
        versions, judging = kept_versions(folder), kept_judging(folder)
        system = _numbers(sampled_rows(folder / SYSTEM_FILE, _POINTS))
        return RunPage(
            _row(folder, _changed(folder / OPTIONS_FILE)),
            options,
            headline(history, versions, judging) if history else [],
            run_charts(options, history, system, versions, judging) if history else [],
            kept_players(folder),
            (folder / REPORT_FILE).exists(),
        )

    def chart(self, name: str, file: str) -> str:
        """A chart as SVG, drawn again when the history has grown.

        Raises:
            OnibusError: there is no such run or chart.
        """
        folder = self.folder(name)
        key = (name, file, _changed(folder / OPTIONS_FILE))
        with self._drawing:  # Matplotlib's figures are shared between threads
            if key not in self._charts:
                chart = next((one for one in self.page(name).charts if one.file == file), None)
                if chart is None:
                    raise OnibusError(f"run {name} has no chart {file}")
                self._charts[key] = chart.svg
                if len(self._charts) > _CHARTS_KEPT:
                    self._charts.popitem(last=False)
            return self._charts[key]


def _numbers(rows: list[dict[str, Any]]) -> list[dict[str, float]]:
    """Of rows that say when they were written, everything that is a number."""
    found = [{k: v for k, v in row.items() if isinstance(v, int | float)} for row in rows]
    return [row for row in found if "seconds" in row]


def _changed(options_file: Path) -> int:
    """When a run wrote its history last, else its options, nanoseconds since the epoch."""
    for path in (options_file.with_name(HISTORY_FILE), options_file):
        try:
            return path.stat().st_mtime_ns
        except OSError:
            continue
    return 0


def _row(folder: Path, changed: int) -> RunRow:
    options = read_state(folder / OPTIONS_FILE, _shown, dict[str, str]())
    last = {k: v for k, v in last_row(folder / HISTORY_FILE).items() if isinstance(v, int | float)}
    return RunRow(folder.name, options.get("task", ""), options.get("reward", ""), last, changed / 1e9)


def _shown(options: Any) -> dict[str, str]:
    return {name: str(options.get(name, "")) for name in ("task", "reward")}
