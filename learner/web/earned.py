"""What captions earned in the runs of a folder, and how often they came up, by the spec that rewarded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from onibus.consumers.labels.fold import FoldedLabel
from onibus.infra.files import read_state
from onibus.learner.options import OPTIONS_FILE
from onibus.learner.run_files.caption_tally import TALLY_FILE, CaptionTally, CaptionTotal
from onibus.learner.run_files.specs import found_specs
from onibus.schemas.ids import caption_id, lookup_id

MOST_RUNS = 200
"""Runs that are added up, those that changed last; each keeps 50,000 captions at most."""
_MOST_CAPTIONS = 500_000
"""Counted once for each spec."""

_NOTHING = CaptionTotal()


class EarnedInRuns:
    """Totals of the runs in a folder; one thread calls :meth:`look`, any number ask.

    A run counts under the specs that rewarded it: by their ids, or, where the run kept none, by their names.
    A run rewarded under several counts whole under each: its totals are not split by spec.
    """

    def __init__(self, runs_dir: Path) -> None:
        self._runs_dir = runs_dir
        self._seen: dict[Path, int] = {}
        self._totals: Mapping[bytes | str, Mapping[int, CaptionTotal]] = {}

    def look(self) -> None:
        """Add up again, if a run wrote its totals since the last time."""
        found = {path: path.stat().st_mtime_ns for path in self._runs_dir.glob(f"*/{TALLY_FILE}")}
        newest = dict(sorted(found.items(), key=lambda item: -item[1])[:MOST_RUNS])
        if newest == self._seen:
            return
        totals: dict[bytes | str, dict[int, CaptionTotal]] = {}
        for path in newest:
            specs = _specs(path.parent)
            tally = CaptionTally.load(path.parent).totals if specs else {}
            for spec in specs:
                under = totals.setdefault(spec, {})
                for caption, total in tally.items():
                    steps, reward = under.get(caption, _NOTHING)
                    under[caption] = CaptionTotal(steps + total.steps, reward + total.reward)
            if sum(map(len, totals.values())) > _MOST_CAPTIONS:
                break
        self._seen, self._totals = newest, totals

    def __call__(self, label: FoldedLabel, spec_name: str) -> CaptionTotal:
        """Of the captions of a label, under its spec: of a comparison, of both."""
        under = [found for spec in (label.spec_id, spec_name) if (found := self._totals.get(spec))]
        if not under:
            return _NOTHING
        compared = len(label.texts) > 1
        captions = [caption_id(text) for text in label.texts] if compared else [label.subject_id]
        earned = [totals.get(lookup_id(one), _NOTHING) for totals in under for one in captions]
        return CaptionTotal(sum(steps for steps, _ in earned), sum(reward for _, reward in earned))


def _specs(folder: Path) -> Iterable[bytes | str]:
    """Ids of the specs that reward a run; their names where it kept no ids."""
    return set(found_specs(folder).values()) or read_state(folder / OPTIONS_FILE, _names, set())


def _names(options: Any) -> set[bytes | str]:
    return {str(share["name"]) for share in options["specs"]}
