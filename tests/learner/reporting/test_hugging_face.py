"""Runs in the layout of the Hugging Face hub: complete, read by others, and played again by onibus."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from onibus.infra.errors import OnibusError
from onibus.infra.settings import Settings, environment_of, load_settings
from onibus.learner.checkpoints import read_checkpoint
from onibus.learner.evaluation.checkpoints import chosen_checkpoints
from onibus.learner.evaluation.evaluation import evaluate
from onibus.learner.evaluation.workers import EvaluationPlan
from onibus.learner.reporting.hugging_face import export_run
from onibus.learner.run_files.caption_tally import CaptionTally
from onibus.learner.run_files.specs import keep_specs
from onibus.schemas.ids import caption_id, lookup_id
from tests.command import run_onibus
from tests.consumers.reward_models.annotation_logs import (
    KEY_FOUND,
    SPEC,
    SPEC_ID,
    SPEC_NAME,
    annotation,
    publish_annotations,
)
from tests.learner.fresh_checkpoint import fresh_run
from tests.learner.recorded_run import recorded_run

AWAY = load_settings(bootstrap_servers="127.0.0.1:1")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Of a run with a history."""
    recorded_run(tmp_path / "a-run")
    return fresh_run(tmp_path / "a-run")


def test_the_exported_policy_plays_as_the_runs(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_run(AWAY, checkpoint.parent.parent, checkpoint, out)
    (exported,) = chosen_checkpoints(tmp_path, str(out), "newest")
    assert chosen_checkpoints(tmp_path, str(out), "all") == [exported]
    kept, before = read_checkpoint(exported), read_checkpoint(checkpoint)
    assert kept["model"].keys() == before["model"].keys()
    assert all((kept["model"][name] == weights).all() for name, weights in before["model"].items())
    alone = exported.rename(tmp_path / "alone.safetensors")
    played, original = (evaluate(path, EvaluationPlan(4)) for path in (alone, checkpoint))
    assert played.figures == original.figures
    assert (played.run, played.env_steps) == (original.run, original.env_steps)


def test_the_card_and_the_files_are_as_the_hub_reads_them(checkpoint: Path, tmp_path: Path) -> None:
    folder, out = checkpoint.parent.parent, tmp_path / "out"
    evaluation = evaluate(checkpoint, EvaluationPlan(4)).to_json()
    names = export_run(AWAY, folder, checkpoint, out, evaluation)
    assert names == [
        "README.md", "config.json", "judging.json", "model.safetensors", "options.json", "results.json",
    ]  # fmt: skip
    card = ModelCard.load(out / "README.md")
    assert card.data.library_name == "onibus"
    (result,) = card.data.eval_results
    assert (result.dataset_name, result.metric_type) == ("keyroom-s5", "mean_reward")
    mean = evaluation["figures"]["return"]["mean"]["value"]
    assert result.metric_value.startswith(f"{mean:.3f} [")
    assert "4 games that training never played" in card.text
    assert "| mean return | 0.900 |" in card.text
    assert json.loads((out / "results.json").read_text())["evaluation"] == evaluation
    assert json.loads((out / "config.json").read_text())["env_steps"] == 300
    assert load_file(out / "model.safetensors").keys() == read_checkpoint(checkpoint)["model"].keys()
    head = (out / "README.md").read_text().split("---")[1]
    assert yaml.safe_load(head)["model-index"][0]["name"] == "a-run"
    export_run(AWAY, folder, checkpoint, out)
    again = (out / "README.md").read_text()
    assert "never played" not in again, "files of an earlier export are replaced"


def test_a_file_that_is_something_else_is_one_clear_line(tmp_path: Path) -> None:
    broken = tmp_path / "model.safetensors"
    broken.write_bytes(b"something else")
    with pytest.raises(OnibusError, match=r"cannot be read \(.*give another"):
        read_checkpoint(broken, advice="give another")


@pytest.mark.slow
def test_the_command_exports_judges_and_labels_that_can_be_imported_again(settings: Settings) -> None:
    folder = recorded_run(settings.runs_dir / "a-run")
    fresh_run(folder)
    tally = CaptionTally()
    tally.add(np.array([lookup_id(caption_id(KEY_FOUND))]), np.zeros(1, np.float32))
    tally.save(folder)
    keep_specs(folder, {SPEC_NAME: SPEC_ID})
    publish_annotations(settings, [replace(annotation(KEY_FOUND), reason="a | b <c>")])
    environment = environment_of(settings) | {"CUDA_VISIBLE_DEVICES": ""}

    def run(*arguments: object) -> str:
        done = run_onibus(*arguments, folder=settings.runs_dir, environment=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    said = run("export", "hf", "a-run", "--episodes", 2)
    assert "labels.jsonl" in said
    out = folder / "hf"
    card = (out / "README.md").read_text()
    assert SPEC.goal in card
    assert SPEC.template in card
    assert "for any run (1)" in card
    assert run("labels", "import", out / "labels.jsonl").startswith("would import 0 annotations")
    assert json.loads(run("evaluate", out, "--episodes", 2, "--json"))[0]["run"] == "a-run"
    assert "a-run" in run("watch", out / "model.safetensors", "--episodes", 1)
