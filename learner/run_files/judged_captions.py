"""The captions of a run with what was said of them: totals from the run, verdicts from the annotation log.

Where a model rewarded, the captions that it scored and their last scores, which the run kept, come in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from infra.kafka.clients import read_all
from infra.kafka.codecs import codec_for
from infra.kafka.topics import TopicNames
from infra.settings import Settings
from learner.run_files.caption_tally import CaptionTally
from learner.run_files.scored_captions import kept_scores
from learner.run_files.specs import found_specs
from schemas.codec import Codec, DecodeError
from schemas.ids import lookup_id, split_label_key
from schemas.records import Annotation

JUDGED_FILE = "judged.json"
KEPT = 200
"""Captions of a run that are kept with their words: the most rewarded and the most frequent."""


@dataclass(frozen=True, slots=True)
class JudgedCaption:
    """One caption of a run.

    Attributes:
        text: the caption.
        verdict: the newest verdict on it; where there is none, what its model made of it.
        reason: what the judge gave as its reason.
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
        OnibusError: the cluster or the topic is away.
    """
    totals = CaptionTally.load(folder).totals
    specs = set(found_specs(folder).values())
    codec = codec_for(settings)
    newest: dict[int, Annotation] = {}
    for records in read_all(settings, TopicNames(settings.topic_prefix).annotations):
        for record in records:
            annotation = _of_run(codec, record.key, record.value, specs, totals)
            if annotation is not None:
                newest[lookup_id(annotation.subject_id)] = annotation
    judged = [
        JudgedCaption(
            text=" | ".join(annotation.texts),
            verdict=annotation.verdict.value if annotation.verdict else "withdrawn",
            reason=annotation.reason,
            steps=totals[caption].steps,
            reward=totals[caption].reward,
        )
        for caption, annotation in newest.items()
    ]
    judged += [
        JudgedCaption(s.text, f"score {s.score:.2f}", "", totals[caption].steps, totals[caption].reward)
        for caption, s in kept_scores(folder).items()
        if caption in totals and caption not in newest
    ]
    judged.sort(key=lambda c: (c.reward, c.steps), reverse=True)
    by_steps = sorted(judged, key=lambda c: c.steps, reverse=True)
    kept = {c.text: c for c in [*judged[: KEPT // 2], *by_steps[: KEPT // 2]]}
    chosen = sorted(kept.values(), key=lambda c: (c.reward, c.steps), reverse=True)
    (folder / JUDGED_FILE).write_text(json.dumps([asdict(c) for c in chosen], indent=1))
    return chosen


def kept_captions(folder: Path) -> list[JudgedCaption] | None:
    """What :func:`judge_captions` kept of the run in ``folder``; None if it never ran."""
    path = folder / JUDGED_FILE
    return [JudgedCaption(**row) for row in json.loads(path.read_text())] if path.exists() else None


def _of_run(
    codec: Codec, key: bytes | None, value: bytes | None, specs: set[bytes], totals: Mapping[int, object]
) -> Annotation | None:
    """The annotation, if it is of these specifications and captions; others are not even decoded."""
    try:
        spec, subject = split_label_key(key or b"")
        if spec not in specs or lookup_id(subject) not in totals:
            return None
        return codec.decode(Annotation, value)
    except (DecodeError, ValueError):
        return None  # not ours to report: consumers count unreadable records
