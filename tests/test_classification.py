"""The reward model's way round: captions, labels, a trainer, versions over the bus, the learner's rewards."""

from __future__ import annotations

import math

import pytest

from onibus.infra.settings import Settings
from onibus.learner.run_files.caption_tally import CaptionTally
from onibus.schemas.ids import caption_id, lookup_id
from tests.consumers.reward_models.annotation_logs import (
    HELPFUL_TEXTS,
    MODEL,
    TEXTS,
    annotation,
    publish_annotations,
    publish_label,
    updates,
)
from tests.learner.runs import checkpoint_of, start_learner, stop, wait_ready
from tests.test_end_to_end import newest, start_annotator, start_trainer, stopping_at_the_end
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

LOCKED_TEXT = "This door is locked."
LOCKED = lookup_id(caption_id(LOCKED_TEXT))
KEYS = [lookup_id(caption_id(text)) for text in HELPFUL_TEXTS]


def test_versions_over_the_bus_reward_captions_and_the_trainer_may_be_away(settings: Settings) -> None:
    folder = settings.runs_dir / "classified"
    publish_annotations(settings, [annotation(text) for text in TEXTS])  # also announces the specification
    publish_label(settings, LOCKED_TEXT)  # which not even a version of four answers overrides
    learner = start_learner(settings, "classified", "--reward", "classification")
    with stopping_at_the_end(learner):
        wait_ready(learner)
        wait_until(lambda: newest(folder).get("specs_found", 0) == 1, 60, "the specification")
        wait_until(lambda: newest(folder).get("captions_published", 0) > 0, 60, "captions on the bus")
        assert newest(folder)["model_version"] == 0
        assert not any(total.reward for total in CaptionTally.load(folder).totals.values())

        annotator, trainer = start_annotator(settings), start_trainer(settings)
        with stopping_at_the_end(annotator, trainer):
            wait_until(lambda: newest(folder).get("model_version", 0) > 1, 120, "a version above 1")
            wait_until(lambda: newest(folder).get("intrinsic_return", 0) > 0, 120, "captions it rewards")
            wait_until(lambda: newest(folder).get("label_coverage", 0) > 0.9, 60, "captions it has judged")
        assert trainer.process is not None
        assert trainer.process.returncode == 0, trainer.log_path.read_text()
        assert "accuracy on new captions" in trainer.log_path.read_text().splitlines()[-1]

        last = updates(settings)[-1]
        wait_until(lambda: newest(folder)["model_version"] == last.version, 60, "the last version")
        age = newest(folder)["model_age_seconds"]
        wait_until(lambda: newest(folder)["model_age_seconds"] > age + 3, 30, "learning without a trainer")
        assert not math.isnan(newest(folder)["model_age_labels"])
        stop(learner)
    totals = CaptionTally.load(folder).totals
    assert totals[LOCKED].reward == 0
    assert sum(totals[key].reward for key in KEYS if key in totals) > 0
    (said,) = checkpoint_of(folder)["onibus"]["provenance"].values()
    assert said == f"0.5 x {MODEL} version {last.version}, {last.weights_sha256.hex()}"
