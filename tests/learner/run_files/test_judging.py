"""Who judged the captions of a run: folded from a real annotation log, and kept with the run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from onibus.consumers.labels.as_of import annotations_as_of
from onibus.consumers.labels.fold import LabelFold
from onibus.infra.settings import Settings
from onibus.learner.run_files.caption_tally import CaptionTally
from onibus.learner.run_files.judging import Agreement, Answers, kept_judging, read_judging, total_usd
from onibus.learner.run_files.specs import keep_specs
from onibus.schemas.ids import caption_id, lookup_id
from onibus.schemas.records import Origin, Verdict
from tests.consumers.reward_models.annotation_logs import (
    HELPFUL_TEXTS,
    KEY_FOUND,
    SPEC,
    SPEC_ID,
    SPEC_NAME,
    UNHELPFUL_TEXTS,
    annotation,
    publish_annotations,
)


def seen_by_the_run(settings: Settings, *texts: str) -> None:
    tally = CaptionTally()
    tally.add(np.array([lookup_id(caption_id(text)) for text in texts]), np.zeros(len(texts), np.float32))
    tally.save(settings.runs_dir)
    keep_specs(settings.runs_dir, {SPEC_NAME: SPEC_ID})


def test_answers_labels_agreement_and_money_of_the_runs_captions(settings: Settings) -> None:
    second, third, not_of_run = HELPFUL_TEXTS[1:4]
    seen_by_the_run(settings, KEY_FOUND, second, third, *UNHELPFUL_TEXTS[:3])
    priced = replace(annotation(second, at=3_000_000), tokens_in=90, tokens_out=10, usd=0.25)
    logged = [
        annotation(KEY_FOUND, at=1_000_000),
        annotation(KEY_FOUND, Verdict.HELPFUL, Origin.HUMAN, at=9_000_000),
        priced,
        annotation(second, Verdict.UNHELPFUL, Origin.HUMAN, at=9_000_000),
        annotation(second, Verdict.HELPFUL, Origin.LLM, at=10_000_000),
        annotation(third, at=4_000_000),
        annotation(third, origin=Origin.WITHDRAWAL, at=9_000_000),
        *(annotation(text, at=2_000_000) for text in UNHELPFUL_TEXTS[:3]),
        annotation(not_of_run, at=5_000_000),
    ]
    publish_annotations(settings, logged)
    (judging,) = read_judging(settings, settings.runs_dir)

    assert (judging.name, judging.spec_id) == (SPEC_NAME, SPEC_ID.hex())
    assert (judging.goal, judging.model, judging.prompt) == (SPEC.goal, "rules", SPEC.template)
    assert judging.answers == [
        Answers("rules", "rules", "", 6),
        Answers("human", "rules", "", 2),
        Answers("llm", "rules", "", 1),
    ]
    assert judging.labels == {"helpful": 1, "unhelpful": 4}
    assert judging.people == Agreement(2, 1, 0.0)
    assert (judging.tokens, judging.usd) == (100, 0.25)
    assert total_usd([judging]) == 0.25
    assert judging.times == [1.0, 2.0, 2.0, 2.0, 3.0, 4.0, 10.0]
    assert judging.verdicts == {"unhelpful": [0, 1, 2, 3, 3, 3, 3], "helpful": [1, 1, 1, 1, 2, 3, 4]}
    assert judging.reference is not None, "the door that is locked and the key are in the set"
    assert kept_judging(settings.runs_dir) == [judging]

    of_run = {caption_id(text) for text in (KEY_FOUND, second, third, *UNHELPFUL_TEXTS[:3])}
    folded = [one for one in LabelFold(annotations_as_of(settings, None)) if one.subject_id in of_run]
    in_force = [one.verdict.value for one in folded if one.verdict is not None]
    assert {verdict: in_force.count(verdict) for verdict in set(in_force)} == judging.labels


def test_a_run_without_specs_or_without_answers_has_no_judges(settings: Settings) -> None:
    assert read_judging(settings, settings.runs_dir) == kept_judging(settings.runs_dir) == []
    seen_by_the_run(settings, KEY_FOUND)
    (judging,) = read_judging(settings, settings.runs_dir)
    assert (judging.answers, judging.people, judging.usd) == ([], None, None)
    assert total_usd([judging]) is None
