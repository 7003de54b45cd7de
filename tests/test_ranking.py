"""Comparisons' way round: captions, pairs, a ranking over the bus, the learner's rewards, a frozen copy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from onibus.consumers.replay.judges import load_model
from onibus.consumers.reward_models.score_scale import ScoreScale
from onibus.infra.errors import OnibusError
from onibus.infra.process.components import Component
from onibus.infra.settings import Settings, environment_of
from onibus.learner.option_groups import SpecShare
from onibus.learner.options import make_options
from onibus.learner.rewards.frozen import check_judges
from onibus.learner.run_files.caption_tally import CaptionTally
from onibus.learner.run_files.scored_captions import kept_scores
from tests.command import OnibusProcess
from tests.consumers.reward_models.annotation_logs import HELPFUL_TEXTS, updates
from tests.learner.runs import checkpoint_of, learn_to_the_end, start_learner, stop, wait_ready
from tests.test_classification import KEYS, LOCKED, LOCKED_TEXT
from tests.test_end_to_end import newest, start_trainer, stopping_at_the_end
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

SPEC = "keys-and-doors-pairs"


def start_comparing(settings: Settings) -> Component:
    annotator = OnibusProcess(
        "judge",
        ("annotate", "--spec", SPEC, "--llm", "rules", "--name", "judge"),
        settings.runs_dir / "judge.log",
    )
    annotator.start(environment_of(settings))
    return annotator


def prefers_keys(settings: Settings) -> bool:
    """Whether the newest version on the bus puts every message about keys before that of a locked door."""
    (update, *_) = updates(settings)
    model = load_model(settings, update.model)
    return bool((model.probability((text, LOCKED_TEXT) for text in HELPFUL_TEXTS) > 0.5).all())


def versions(settings: Settings) -> int:
    return max(update.version for update in updates(settings))


def scores(folder: Path) -> dict[int, float]:
    return {caption: scored.score for caption, scored in kept_scores(folder).items()}


def test_a_ranking_that_arrives_over_the_bus_rewards_what_comparisons_prefer(settings: Settings) -> None:
    folder = settings.runs_dir / "ranked"
    annotator = start_comparing(settings)
    wait_ready(annotator)  # its group begins before the first caption is published
    learner = start_learner(settings, "ranked", "--reward", "ranking")
    with stopping_at_the_end(annotator, learner):
        wait_ready(learner)
        trainer = start_trainer(settings, SPEC)
        with stopping_at_the_end(trainer):
            wait_until(lambda: newest(folder).get("model_version", 0) > 1, 120, "a version above 1")
            wait_until(lambda: prefers_keys(settings), 120, "a version that prefers keys")
            wait_until(lambda: newest(folder).get("intrinsic_return", 0) > 0, 120, "captions it rewards")
            wait_until(lambda: "label_to_reward_p50" in newest(folder), 60, "the time to a first reward")
        assert "pairs" in trainer.log_path.read_text()
        wait_until(lambda: newest(folder)["model_version"] == versions(settings), 60, "the last version")
        stop(learner)
    kept = checkpoint_of(folder)["onibus"]
    ((spec_id, said),) = kept["provenance"].items()
    assert said.startswith(f"0.3 x {SPEC}-{spec_id} version ")
    scale = ScoreScale.from_figures(updates(settings)[-1].normalisation)
    assert scale is not None
    assert scale.captions > 1
    assert scale.deviation > 0
    scored = scores(folder)
    known_keys = [scored[key] for key in KEYS if key in scored]
    assert known_keys
    assert max(known_keys) > scored[LOCKED]

    frozen = learn_to_the_end(
        settings,
        *("--run", "frozen", "--reward", "motif", "--motif-model", f"{SPEC}-{spec_id}"),
        *("--steps", "3000", "--workers", "1", "--environments", "4", "--batch-size", "256"),
    )
    assert frozen.returncode == 0, frozen.stderr
    frozen_scores = scores(settings.runs_dir / "frozen")
    assert frozen_scores[LOCKED] == pytest.approx(scored[LOCKED], abs=1e-3)


@pytest.mark.parametrize(
    ("reward", "given", "words"),
    [
        ("motif", {"motif_model": "no-such-model"}, "no such model on the bus"),
        ("motif", {"motif_model": __file__}, "give a file of onibus replay train"),
        ("similarity", {"embedding": "/no/such/file"}, "--embedding"),
        ("similarity", {"specs": (SpecShare(name="no-such-spec", coefficient=1.0),)}, "no-such-spec"),
    ],
)
def test_what_a_reward_needs_and_has_not_is_said_before_the_run_starts(
    settings: Settings, reward: str, given: dict[str, Any], words: str
) -> None:
    options = make_options("keyroom-s5", run="x", reward=reward, **given)
    with pytest.raises(OnibusError, match=words) as refused:
        check_judges(settings, options)
    assert "\n" not in str(refused.value)


def test_motif_without_its_model_is_one_line_and_exit_code_2(settings: Settings) -> None:
    ended = learn_to_the_end(settings, "--run", "x", "--reward", "motif")
    assert ended.returncode == 2
    (line,) = ended.stderr.strip().splitlines()
    assert "--motif-model" in line


def test_similarity_to_the_goal_rewards_without_annotators(settings: Settings) -> None:
    ended = learn_to_the_end(
        settings,
        *("--run", "alike", "--reward", "similarity", "--steps", "6000"),
        *("--workers", "1", "--environments", "4", "--batch-size", "256"),
    )
    assert ended.returncode == 0, ended.stderr
    folder = settings.runs_dir / "alike"
    scored, totals = scores(folder), CaptionTally.load(folder).totals
    assert all(-1 <= score <= 1 for score in scored.values())
    rewarded = [caption for caption, total in totals.items() if total.reward > 0]
    assert rewarded
    assert all(scored[caption] > 0 for caption in rewarded)
