"""What a run's captions are said to be worth: labels from the bus, and the scores of its model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from onibus.consumers.labels.table import VERDICTS, LabelTable
from onibus.consumers.labels.writer import Change, LabelWriter
from onibus.consumers.specs.spec_file import load_spec_file, publish_specs
from onibus.infra.kafka.clients import read_all
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.settings import Settings
from onibus.learner.rewards.score_to_reward import ScoreAboveThreshold
from onibus.learner.rewards.scores import ModelInUse, ModelScores
from onibus.learner.run_files.caption_tally import CaptionTally
from onibus.learner.run_files.judged_captions import judge_captions, kept_captions
from onibus.learner.run_files.scored_captions import keep_scores
from onibus.learner.run_files.specs import keep_specs
from onibus.learner.run_files.versions import keep_versions, kept_versions
from onibus.schemas.ids import caption_id, lookup_id, spec_id
from onibus.schemas.records import Origin, Verdict
from tests.consumers.reward_models.annotation_logs import (
    KEY_FOUND,
    SPEC,
    SPEC_ID,
    SPEC_NAME,
    TEXTS,
    annotation,
    publish_annotations,
)

UNLABELLED = "You have a little trouble lifting a key."


def test_labels_count_where_there_are_some_and_scores_where_there_are_none(settings: Settings) -> None:
    publish_specs(settings, [SPEC])
    publish_annotations(settings, [annotation(KEY_FOUND)])
    folder = settings.runs_dir
    keep_specs(folder, {SPEC_NAME: SPEC_ID})
    known = {lookup_id(caption_id(text)): text for text in (KEY_FOUND, UNLABELLED)}
    tally = CaptionTally()
    tally.add(np.array([*known, *known]), np.array([1.0, 0.25, 1.0, 0.25], np.float32))
    tally.save(folder)
    scores = ModelScores(ScoreAboveThreshold(0.0), ranks=False)
    scores.use(
        SPEC_ID, lambda captions: np.full(len(captions), 2.5, np.float32), ModelInUse("m", 1, "", 0, 0.0)
    )
    scores.add(known)
    scores.complete(np.array([*known]))
    keep_scores(folder, scores, [SPEC_ID])

    captions = judge_captions(settings, folder)
    assert [(c.text, c.verdict, c.steps, c.reward) for c in captions] == [
        (KEY_FOUND, "helpful", 2, 2.0),
        (UNLABELLED, "score 2.50", 2, 0.5),
    ]
    assert kept_captions(folder) == captions


def test_the_report_names_the_verdict_that_the_label_table_has(settings: Settings) -> None:
    other = load_spec_file("combat").for_rules()
    texts = corrected, withdrawn, asked_again, twice = TEXTS[:4]
    withdrawal = annotation(withdrawn, origin=Origin.WITHDRAWAL)
    again = annotation(asked_again, Verdict.UNSURE, Origin.LLM)
    persons = annotation(corrected, Verdict.UNHELPFUL, Origin.HUMAN)
    helpful = annotation(twice, Verdict.HELPFUL, Origin.LLM)
    calm = replace(
        annotation(twice, Verdict.UNHELPFUL, Origin.LLM), spec_id=spec_id(other), reason="nothing to fight"
    )
    changes = [
        Change(0, (persons,), persons),
        Change(0, (annotation(corrected, Verdict.HELPFUL, Origin.LLM),), None),  # as annotators write it
        Change(1, (annotation(withdrawn, Verdict.HELPFUL, Origin.HUMAN), withdrawal), withdrawal),
        Change(2, (annotation(asked_again, Verdict.HELPFUL, Origin.HUMAN),), None),
        Change(2, (annotation(asked_again, origin=Origin.WITHDRAWAL), again), again),
        Change(3, (helpful,), helpful),
        Change(3, (calm,), calm),
    ]
    publish_specs(settings, [SPEC, other])
    with LabelWriter(settings) as writer:
        writer.write(changes)
    folder = settings.runs_dir
    tally = CaptionTally()
    tally.add(np.array([lookup_id(caption_id(text)) for text in texts]), np.zeros(4, np.float32))
    tally.save(folder)

    keep_specs(folder, {SPEC_NAME: SPEC_ID})
    table = LabelTable()
    for batch in read_all(settings, TopicNames(settings.topic_prefix).labels):
        table.apply([r.key for r in batch], [r.value for r in batch])
    codes = table.verdicts(SPEC_ID, np.array([lookup_id(caption_id(text)) for text in texts]))
    by_table = {
        text: VERDICTS[code].value if code else "withdrawn"
        for text, code in zip(texts, codes.tolist(), strict=True)
    }
    assert {c.text: c.verdict for c in judge_captions(settings, folder)} == by_table
    assert by_table[corrected] == "unhelpful"

    keep_specs(folder, {SPEC_NAME: SPEC_ID, "combat": spec_id(other)})
    said = {c.text: (c.verdict, c.reason) for c in judge_captions(settings, folder)}
    assert said[twice] == ("combat: unhelpful; keys-and-doors: helpful", "combat: nothing to fight")


def test_a_run_without_versions_has_none(settings: Settings) -> None:
    keep_specs(settings.runs_dir, {SPEC_NAME: SPEC_ID})
    assert keep_versions(settings, settings.runs_dir) == kept_versions(settings.runs_dir) == []
