"""Which captions each spec is asked about: by task and captioner, and the tasks and runs that were named."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from onibus.infra.captioner_names import short_name
from onibus.schemas.records import CaptionObserved

_log = logging.getLogger(__name__)

_MOST_KNOWN = 10_000
"""Triples of task, run and captioner remembered; runs come and go for as long as an annotator lives."""
_MOST_SAID = 10
"""Tasks of which it is said that no one asks about their captions."""


class CaptionFilter:
    """Decides by a caption's task, run and captioner. Patterns are those of file names.

    What is asked about again by hand has neither task nor captioner, and fits any.

    Args:
        specs: ids of the specs.
        tasks: patterns of the tasks of single specs, by spec id; a spec without any is for all tasks.
        captioners: names of the captioners of single specs, by spec id; a spec without one takes any.
        only_tasks, only_runs: patterns of what was named on the command line; none: all.
    """

    def __init__(
        self,
        specs: Iterable[bytes],
        tasks: Mapping[bytes, Sequence[str]] | None = None,
        captioners: Mapping[bytes, str] | None = None,
        only_tasks: Sequence[str] = (),
        only_runs: Sequence[str] = (),
    ) -> None:
        own = tasks or {}
        self._tasks = {spec_id: tuple(own.get(spec_id, ())) for spec_id in specs}
        self._only_tasks, self._only_runs = tuple(only_tasks), tuple(only_runs)
        self._captioners = captioners or {}
        self._known: dict[tuple[str, str, str], frozenset[bytes]] = {}
        self._said: set[tuple[str, str]] = set()

    def specs(self, caption: CaptionObserved) -> frozenset[bytes]:
        """Ids of the specs that are asked about a caption."""
        place = (caption.task, caption.run, caption.captioner)
        found = self._known.get(place)
        if found is None:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            found = self._known[place] = self._decide(*place)
            if not found:
                self._say_left_out(*place)
        return found

    def _say_left_out(self, task: str, run: str, captioner: str) -> None:
        """A misspelt task in a spec would leave out everything, and say nothing."""
        if (task, captioner) not in self._said and len(self._said) < _MOST_SAID:
            self._said.add((task, captioner))
            _log.info(
                "captions of task %s (run %s, captioner %s) are left out: no spec here is for them",
                *(task, run, captioner),
            )

    def _decide(self, task: str, run: str, captioner: str) -> frozenset[bytes]:
        if not (_fits(task, self._only_tasks) and _fits(run, self._only_runs)):
            return frozenset()
        name = short_name(captioner)
        return frozenset(
            spec_id
            for spec_id, patterns in self._tasks.items()
            if _fits(task, patterns) and name in ("", self._captioners.get(spec_id, name))
        )


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return not (name and patterns) or any(fnmatchcase(name, pattern) for pattern in patterns)
