"""Which captions each spec is asked about: those of its own tasks, of the tasks and runs that were named."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

_log = logging.getLogger(__name__)

_MOST_KNOWN = 10_000
"""Pairs of task and run remembered; runs come and go for as long as an annotator lives."""
_MOST_SAID = 10
"""Tasks of which it is said that no one asks about their captions."""


class CaptionFilter:
    """Decides by the task and the run that a caption was observed in. Patterns are those of file names.

    Args:
        specs: ids of the specs.
        tasks: patterns of the tasks of single specs, by spec id; a spec without any is for all tasks.
        only_tasks, only_runs: patterns of what was named on the command line; none: all.
    """

    def __init__(
        self,
        specs: Iterable[bytes],
        tasks: Mapping[bytes, Sequence[str]] | None = None,
        only_tasks: Sequence[str] = (),
        only_runs: Sequence[str] = (),
    ) -> None:
        own = tasks or {}
        self._tasks = {spec_id: tuple(own.get(spec_id, ())) for spec_id in specs}
        self._only_tasks, self._only_runs = tuple(only_tasks), tuple(only_runs)
        self._known: dict[tuple[str, str], frozenset[bytes]] = {}
        self._said: set[str] = set()

    def specs(self, task: str, run: str) -> frozenset[bytes]:
        """Ids of the specs that are asked about captions of this task and run."""
        found = self._known.get((task, run))
        if found is None:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            found = self._known[task, run] = self._decide(task, run)
            if not found:
                self._say_left_out(task, run)
        return found

    def _say_left_out(self, task: str, run: str) -> None:
        """A misspelt task in a spec would leave out everything, and say nothing."""
        if task not in self._said and len(self._said) < _MOST_SAID:
            self._said.add(task)
            _log.info("captions of task %s (run %s) are left out: no spec here is for them", task, run)

    def _decide(self, task: str, run: str) -> frozenset[bytes]:
        if not (_fits(task, self._only_tasks) and _fits(run, self._only_runs)):
            return frozenset()
        return frozenset(spec_id for spec_id, patterns in self._tasks.items() if _fits(task, patterns))


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)
