"""What captions earned in all runs of a folder, and how often they came up."""

from __future__ import annotations

from pathlib import Path

from onibus.consumers.labels.fold import FoldedLabel
from onibus.learner.run_files.caption_tally import TALLY_FILE, CaptionTally
from onibus.schemas.ids import caption_id, lookup_id

MOST_RUNS = 200
"""Runs that are added up, those that changed last; each keeps 50,000 captions at most."""
_MOST_CAPTIONS = 500_000

Total = tuple[int, float]
"""Steps and reward."""


class EarnedInRuns:
    """Totals of the runs in a folder; one thread calls :meth:`look`, any number ask."""

    def __init__(self, runs_dir: Path) -> None:
        self._runs_dir = runs_dir
        self._seen: dict[Path, int] = {}
        self._totals: dict[int, Total] = {}

    def look(self) -> None:
        """Add up again, if a run wrote its totals since the last time."""
        found = {path: path.stat().st_mtime_ns for path in self._runs_dir.glob(f"*/{TALLY_FILE}")}
        newest = dict(sorted(found.items(), key=lambda item: -item[1])[:MOST_RUNS])
        if newest == self._seen:
            return
        totals: dict[int, Total] = {}
        for path in newest:
            for caption, total in CaptionTally.load(path.parent).totals.items():
                steps, reward = totals.get(caption, (0, 0.0))
                totals[caption] = steps + total.steps, reward + total.reward
            if len(totals) > _MOST_CAPTIONS:
                break
        self._seen, self._totals = newest, totals

    def __call__(self, label: FoldedLabel) -> Total:
        """Of the captions of a label: of a comparison, of both."""
        totals = self._totals
        if len(label.texts) == 1:
            return totals.get(lookup_id(label.subject_id), (0, 0.0))
        both = [totals.get(lookup_id(caption_id(text)), (0, 0.0)) for text in label.texts]
        return sum(steps for steps, _ in both), sum(reward for _, reward in both)
