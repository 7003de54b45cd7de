"""The captions of a run with what was said of them: totals from the run, verdicts from the annotation log.

Where a model rewarded, the captions that it scored and their last scores, which the run kept, come in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from onibus.consumers.labels.as_of import annotations_as_of
from onibus.consumers.labels.fold import FoldedLabel, LabelFold
from onibus.infra.files import read_state, write_or_refuse
from onibus.infra.settings import Settings
from onibus.learner.run_files.caption_tally import CaptionTally
from onibus.learner.run_files.scored_captions import kept_scores
from onibus.learner.run_files.specs import found_specs
from onibus.schemas.ids import LABEL_KEY_BYTES, lookup_id, split_label_key
from onibus.schemas.verdict_in_force import verdict_name

JUDGED_FILE = "judged.json"
KEPT = 200
"""Captions of a run that are kept with their words: the most rewarded and the most frequent."""


@dataclass(frozen=True, slots=True)
class JudgedCaption:
    """One caption of a run.

    Attributes:
        text: the caption.
        verdict: in force for it, by :mod:`onibus.schemas.verdict_in_force`, the label table's rule,
            with the names of the specifications where the run has several; where there is none, its model's
        score. reason: what the judge gave as its reason.
        steps: steps of the run that brought it about.
        reward: intrinsic reward that they earned in all.
    """

    text: str
    verdict: str
    reason: str
    steps: int
    reward: float


def judge_captions(settings: Settings, folder: Path) -> list[JudgedCaption]:
    """The run's captions that were judged under its specifications, best rewarded first; kept in its folder.

    Reads the whole annotation log; memory is bounded by the captions of the run.

    Raises:
        OnibusError: the cluster or the topic is away, the log is not whole, or the file cannot be written.
    """
    totals, names = CaptionTally.load(folder).totals, {i: name for name, i in found_specs(folder).items()}

    def is_of_run(key: bytes) -> bool:
        if len(key) != LABEL_KEY_BYTES:
            return False
        spec_id, subject_id = split_label_key(key)
        return spec_id in names and lookup_id(subject_id) in totals

    labels: dict[int, list[FoldedLabel]] = {}
    for label in LabelFold(annotations_as_of(settings, None, is_of_run)):
        labels.setdefault(lookup_id(label.subject_id), []).append(label)
    scores = kept_scores(folder)
    judged = []
    for caption, total in totals.items():
        about = labels.get(caption, [])
        in_force = [label for label in about if label.verdict is not None]
        if in_force or (about and caption not in scores):
            said = (about[0].text, *_said(in_force or about, names))
        elif caption in scores:
            said = (scores[caption].text, f"score {scores[caption].score:.2f}", "")
        else:
            continue
        judged.append(JudgedCaption(*said, total.steps, total.reward))
    judged.sort(key=lambda c: (c.reward, c.steps), reverse=True)
    by_steps = sorted(judged, key=lambda c: c.steps, reverse=True)
    kept = {c.text: c for c in [*judged[: KEPT // 2], *by_steps[: KEPT // 2]]}
    chosen = sorted(kept.values(), key=lambda c: (c.reward, c.steps), reverse=True)
    write_or_refuse(folder / JUDGED_FILE, json.dumps([asdict(c) for c in chosen], indent=1))
    return chosen


def kept_captions(folder: Path) -> list[JudgedCaption] | None:
    """What :func:`judge_captions` kept of the run in ``folder``; None if it never ran."""
    return read_state(folder / JUDGED_FILE, lambda rows: [JudgedCaption(**row) for row in rows], None)


def _said(labels: Sequence[FoldedLabel], names: Mapping[bytes, str]) -> tuple[str, str]:
    """Verdict and reason; with the names of their specifications if the run has several."""
    ordered = sorted(labels, key=lambda label: names[label.spec_id])
    verdicts = [verdict_name(label.verdict) for label in ordered]
    reasons = [label.reason for label in ordered]
    if len(names) == 1:
        return verdicts[0], reasons[0]

    def named(words: Sequence[str]) -> str:
        return "; ".join(
            f"{names[label.spec_id]}: {word}" for label, word in zip(ordered, words, strict=True) if word
        )

    return named(verdicts), named(reasons)
