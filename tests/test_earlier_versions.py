"""Data of earlier versions are read, labelled, trained on, replayed and resumed.

``tests/recorded/v0_1_0`` is of two runs of ``onibus demo`` of that version: their topics, the folder of one
run (its checkpoint without the optimiser's moments), and the spec file that was asked about.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from onibus.consumers.language_models.rules import RulesModel
from onibus.consumers.specs.spec_file import load_spec_file
from onibus.infra.settings import Settings
from onibus.learner.run_files.history import read_history
from onibus.schemas import ids
from tests.consumers.annotating import HeldModel, annotator, publish, wait_for_labels
from tests.consumers.replay.running import onibus, onibus_json
from tests.learner.runs import checkpoint_of, learn_to_the_end
from tests.recorded import topics

RECORDED = Path(__file__).parent / "recorded" / "v0_1_0"
SPEC_ID = "7150fff8fd844203"
LABELS = 18
PAIRS = 62

pytestmark = pytest.mark.slow


@pytest.fixture
def recorded(settings: Settings) -> Settings:
    """Settings whose topics hold the recording."""
    topics.publish(settings, RECORDED / "topics.avro")
    return settings


def test_labels_are_made_again_and_models_are_known_as_the_older_versions(recorded: Settings) -> None:
    checked = onibus_json(recorded, "replay", "verify")
    assert checked["labels"]["differences"] == []
    assert checked["labels"]["labels"] == LABELS + PAIRS
    assert [t["versions"] for t in checked["trainings"]] == [1, 1]
    assert all(t["made_by"] for t in checked["trainings"]), "it trained otherwise, which is no failure"


def test_labels_are_listed_and_a_model_is_trained_on_them(recorded: Settings) -> None:
    listed = onibus_json(recorded, "labels", "list", "--spec", "keys-and-doors", "--limit", 1_000)
    assert len(listed) == LABELS
    onibus(recorded, "replay", "train", "--spec", "keys-and-doors", recorded.runs_dir / "model")


def test_what_was_labelled_is_not_asked_again_under_the_old_spec_file(recorded: Settings) -> None:
    file = load_spec_file(RECORDED / "keys-and-doors.toml")
    spec = file.for_rules()
    assert ids.spec_id(spec).hex() == SPEC_ID
    assert file.rules is not None
    model = HeldModel(RulesModel({ids.spec_id(spec): file.rules}))
    model.open.set()
    with annotator(recorded, specs={ids.spec_id(spec): spec}, model=model):
        publish(recorded, ["A caption that the older version has not seen."])
        wait_for_labels(recorded, LABELS + PAIRS + 1)
    assert list(model.asked) == ["A caption that the older version has not seen."]


def test_a_run_goes_on(recorded: Settings) -> None:
    with tarfile.open(RECORDED / "run.tar.xz") as archive:
        archive.extractall(recorded.runs_dir, filter="data")
    folder = recorded.runs_dir / "old-run"
    before, rows = checkpoint_of(folder)["env_steps"], len(read_history(folder))
    flags = ("--run", "old-run", "--task", "keyroom-s5", "--reward", "classification", "--resume")
    size = ("--workers", "1", "--environments", "8", "--batch-size", "256", "--steps", str(before + 2_000))
    done = learn_to_the_end(recorded, *flags, *size)
    assert done.returncode == 0, done.stderr
    assert checkpoint_of(folder)["env_steps"] >= before + 2_000
    assert len(read_history(folder)) > rows
