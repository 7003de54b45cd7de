"""When versions are made: our own schedule and the published one; whatever it is, replay makes them again."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import get_args

import pytest

from onibus.consumers.reward_models import loop, schedule
from onibus.consumers.reward_models.character_cnn import NETWORKS
from onibus.consumers.reward_models.schedule import Name, Published, TrainingProgress, schedule_named
from onibus.consumers.reward_models.trainer import RewardTrainer
from onibus.consumers.specs.spec_file import load_spec_file, publish_specs
from onibus.infra.settings import Settings
from onibus.schemas import ids
from onibus.schemas.records import Kind
from tests.consumers.replay.running import onibus_json
from tests.consumers.reward_models.annotation_logs import (
    MODEL,
    SPEC_ID,
    SPEC_NAME,
    TEXTS,
    annotation,
    publish_annotations,
    updates,
)
from tests.consumers.reward_models.test_loop import trainer_in_a_thread
from tests.consumers.reward_models.test_ranking import PAIRS
from tests.waiting import wait_until

PAIRS_SPEC = load_spec_file(f"{SPEC_NAME}-pairs").for_rules()
START = TrainingProgress(before=0, new=0, versions=1, idle=0, seconds=0.0, quiet=False)


@pytest.mark.parametrize(
    ("at", "due"),
    [
        (replace(START, new=99), False),
        (replace(START, new=100), True),
        (replace(START, before=24_000, new=99, seconds=1e6), False),
        (replace(START, new=1, quiet=True), True),
        (replace(START, quiet=True, seconds=1e6), False),
        (replace(START, before=25_000, new=500, seconds=10.2), False),
        (replace(START, before=25_000, new=0, seconds=10.24), True),
    ],
)
def test_the_published_schedule_counts_answers_then_time(at: TrainingProgress, due: bool) -> None:
    assert Published().is_due(at) is due


def test_after_25000_labels_the_learners_batches_a_second_are_given() -> None:
    late = replace(START, before=25_000, seconds=5.12)
    assert Published(50.0).is_due(late)
    assert not Published(49.0).is_due(late)
    assert Published().steps(24_999) == 32
    assert Published().steps(25_000) == 256


def test_the_published_schedule_takes_8000_steps_for_25000_labels() -> None:
    """A step for each 3.125 labels, as ONI's program; without a gradient here: counting alone."""
    published, steps, before = Published(), 0, 0
    for seen in range(1, 25_000):
        if published.is_due(replace(START, before=before, new=seen - before)):
            steps, before = steps + published.steps(seen), seen
    assert steps == pytest.approx(8_000, abs=32)


@pytest.fixture
def soon_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second part of the published schedule begins after a few labels."""
    monkeypatch.setattr(schedule, "MANY", 20)
    monkeypatch.setattr(schedule, "LATE_STEPS_PER_VERSION", 8)


def test_a_version_may_be_due_without_a_new_label_and_each_has_batches_of_its_own(soon_many: None) -> None:
    trainer = RewardTrainer(MODEL, SPEC_ID, 7, schedule=Published())
    for offset, text in enumerate(TEXTS):
        trainer.see(0, offset, annotation(text))
    files = []
    for _ in range(2):
        assert trainer.is_due(seconds=60.0)
        version = trainer.train()
        assert version is not None
        assert (version.steps, version.schedule) == (8, "published")
        files.append(version.file)
        assert not trainer.is_due()
    assert [file.provenance.gradient_steps for file in files] == [8, 16]
    assert files[0].to_bytes() != files[1].to_bytes()


def test_another_schedule_goes_on_with_a_model() -> None:
    trainer = RewardTrainer(MODEL, SPEC_ID, 7)
    for offset, text in enumerate(TEXTS):
        trainer.see(0, offset, annotation(text))
    version = trainer.train()
    assert version is not None
    resumed = RewardTrainer(MODEL, SPEC_ID, 7, version.file, schedule=Published())
    for offset, text in enumerate(TEXTS):
        resumed.see(0, offset, annotation(text))
    assert resumed.version == 1
    assert resumed.train() is not None


@pytest.mark.slow
@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("network", NETWORKS)
def test_versions_of_every_network_reward_and_schedule_are_made_again_bit_for_bit(
    settings: Settings, network: str, kind: Kind, soon_many: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One trainer after the other continues the model, each by another schedule; few steps tell as much."""
    monkeypatch.setattr(schedule, "STEPS_PER_VERSION", 4)
    monkeypatch.setattr(loop, "QUIET_SECONDS", 0.5)  # each waits until no more labels come
    compares = kind is Kind.COMPARE_TWO
    spec_id = ids.spec_id(PAIRS_SPEC) if compares else SPEC_ID
    log = [replace(one, spec_id=spec_id) for one in (PAIRS if compares else [*map(annotation, TEXTS)])]
    publish_specs(settings, [PAIRS_SPEC])
    for number, name in enumerate((*get_args(Name), "own")):
        publish_annotations(settings, log[number::3])
        before, by = len(updates(settings)), schedule_named(name, rate=8.0)
        with trainer_in_a_thread(
            settings, "m", spec_id, kind, network=NETWORKS[network], schedule=by
        ) as errors:
            wait_until(lambda made=before: len(updates(settings)) > made, 200, f"a version by {name}", 0.2)
        assert not errors
    made = updates(settings)
    assert {one.schedule for one in made} == set(get_args(Name))
    assert {later.gradient_steps - one.gradient_steps for one, later in pairwise(made)} >= {4, 8}
    (check,) = onibus_json(settings, "replay", "verify", "--no-labels")["trainings"]
    assert (check["identical"], check["versions"]) == (len(made), len(made))
