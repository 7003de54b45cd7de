"""What a run's captions are said to be worth: labels from the bus, and the scores of its model."""

from __future__ import annotations

import numpy as np

from consumers.specs.spec_file import publish_specs
from infra.settings import Settings
from learner.rewards.scores import ModelInUse, ModelScores
from learner.run_files.caption_tally import CaptionTally
from learner.run_files.judged_captions import judge_captions, kept_captions
from learner.run_files.scored_captions import keep_scores
from learner.run_files.specs import keep_specs
from learner.run_files.versions import keep_versions, kept_versions
from schemas.ids import caption_id, lookup_id
from tests.consumers.reward_models.annotation_logs import (
    KEY_FOUND,
    SPEC,
    SPEC_ID,
    SPEC_NAME,
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
    scores = ModelScores(ranks=True)
    scores.use(
        SPEC_ID, lambda captions: np.full(len(captions), 2.5, np.float32), ModelInUse("m", 1, "", 0, 0.0)
    )
    scores.add(known)
    keep_scores(folder, scores, [SPEC_ID])

    captions = judge_captions(settings, folder)
    assert [(c.text, c.verdict, c.steps, c.reward) for c in captions] == [
        (KEY_FOUND, "helpful", 2, 2.0),
        (UNLABELLED, "score 2.50", 2, 0.5),
    ]
    assert kept_captions(folder) == captions


def test_a_run_without_versions_has_none(settings: Settings) -> None:
    keep_specs(settings.runs_dir, {SPEC_NAME: SPEC_ID})
    assert keep_versions(settings, settings.runs_dir) == kept_versions(settings.runs_dir) == []
