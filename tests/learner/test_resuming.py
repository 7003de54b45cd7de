"""A resumed run takes its own options; flags that are given override them, and every session is recorded."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from onibus.infra.errors import OnibusError
from onibus.infra.files import read_rows
from onibus.infra.settings import Settings
from onibus.learner.checkpoints import CHECKPOINT_FOLDER, write_checkpoint
from onibus.learner.chosen_options import chosen_options
from onibus.learner.options import (
    OPTIONS_FILE,
    LearnOptions,
    difference,
    load_options,
    make_options,
    resumed_options,
    save_options,
)
from onibus.learner.run_files.sessions import SESSION_LOG, SESSIONS_FILE
from onibus.learner.run_files.specs import SPECS_FILE, found_specs, keep_specs
from onibus.learner.training import _open_run
from tests.learner.runs import SMALL, checkpoint_of, finish, learn_to_the_end, start_learner

OWN: dict[str, Any] = {
    "learning_rate": 3e-4, "entropy": 0.02, "seed": 9, "workers": 3, "extrinsic_coefficient": 0.7,
    "specs": ["goals=0.2", "combat=0.1"], "count_beta": 1.0, "vtrace": True, "rnn": "gru",
}  # fmt: skip
"""What a run was started with, none of it a default."""

OLD_OPTIONS = """{"run": "a-run", "task": "score", "reward": "retrieval",
 "specs": [{"name": "goals", "coefficient": 0.4}], "reward_threshold": null, "motif_model": null,
 "embedding": "hashed", "extrinsic_coefficient": 0.1, "count_beta": 3.0, "network": "full", "workers": 2,
 "environments": 16, "rollout": 32, "batch_size": 1024, "epochs": 1, "learning_rate": 0.0002,
 "discount": 0.99, "entropy": 0.003, "gradient_norm": 4.0, "vtrace": false, "max_episode_steps": null,
 "steps": null, "until_return": null, "seconds": null, "seed": 4, "device": "cpu", "serial": false,
 "checkpoint_seconds": 60, "captions": true}"""
"""As 0.1.0 wrote them."""


def sessions_of(folder: Path) -> list[dict[str, Any]]:
    return read_rows(folder / SESSION_LOG, "session")


def resumed(folder: Path, **given: Any) -> LearnOptions:
    options, _ = chosen_options(folder, given, "a-run", resume=True, or_start=False)
    return options


@pytest.fixture
def a_run(tmp_path: Path) -> LearnOptions:
    """The options of a run in ``tmp_path / "a-run"`` that was saved."""
    options = make_options("score", run="a-run", **OWN)
    assert _open_run(options, tmp_path / "a-run", None, OWN) == 0
    kept = {"options": options.model_dump_json()}
    content = {"model": {}, "train_step": 3, "env_steps": 100, "onibus": kept}
    write_checkpoint(tmp_path / "a-run" / CHECKPOINT_FOLDER / "checkpoint_000000003_100.pth", content)
    return options


def test_without_flags_everything_stays(
    a_run: LearnOptions, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    options = resumed(tmp_path)
    assert options == a_run
    _open_run(options, tmp_path / "a-run", a_run)
    assert "run a-run goes on with its own options" in caplog.messages


def test_flags_override_and_the_difference_is_printed_and_recorded(
    a_run: LearnOptions, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    given = {"learning_rate": 1e-5, "steps": 6000, "vtrace": False, "workers": 3}
    options, before = chosen_options(tmp_path, given, "a-run", resume=True, or_start=False)
    assert options == a_run.model_copy(update=given)
    assert before == a_run
    folder = tmp_path / "a-run"
    assert _open_run(options, folder, before, given) == 1
    (line,) = [line for line in caplog.messages if "goes on with" in line]
    assert line == (
        "run a-run goes on with --learning-rate 1e-05 (was 0.0003), --vtrace no (was yes), "
        "--steps 6000 (was none)"
    )
    assert load_options(folder) == options
    first, second = sessions_of(folder)
    assert (first["session"], first["given"]) == (0, json.loads(json.dumps(OWN)))
    assert LearnOptions.model_validate(first["options"]) == a_run
    assert (second["session"], second["given"]) == (1, given)
    assert LearnOptions.model_validate(second["options"]) == options
    assert (folder / SESSIONS_FILE).read_text() == "2\n"


def test_an_old_run_folder_resumes_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "a-run"
    folder.mkdir()
    (folder / OPTIONS_FILE).write_text(OLD_OPTIONS)
    (folder / SESSIONS_FILE).write_text("2\n")
    options, before = chosen_options(tmp_path, {"seed": 5}, "a-run", resume=True, or_start=False)
    assert (options.learning_rate, options.seed, options.core) == (2e-4, 5, "gru")
    assert options.extrinsic_clip is None, "such a run was not clipped, and its returns are learned that way"
    assert _open_run(options, folder, before, {"seed": 5}) == 2
    before_row, now = sessions_of(folder)
    assert (before_row["session"], before_row["options"]["seed"]) == (1, 4)
    assert (now["session"], now["options"]["seed"]) == (2, 5)


@pytest.mark.parametrize("broken", [None, "{"])
def test_lost_options_come_from_the_checkpoint(
    a_run: LearnOptions, tmp_path: Path, broken: str | None
) -> None:
    file = tmp_path / "a-run" / OPTIONS_FILE
    file.unlink() if broken is None else file.write_text(broken)
    assert resumed(tmp_path) == a_run


@pytest.mark.parametrize(
    ("given", "flag"),
    [
        ({"task": "oracle"}, "--task score, not oracle; leave --task out to resume it"),
        ({"task": "keyroom-s5"}, "--task score, not keyroom-s5"),
        ({"network": "full"}, "--network medium, not full"),
        ({"rnn": "lstm"}, "--rnn gru, not lstm"),
        ({"rnn_size": 64}, "--rnn-size 512, not 64"),
    ],
)
def test_what_the_weights_depend_on_stays(
    a_run: LearnOptions, tmp_path: Path, given: dict[str, Any], flag: str
) -> None:
    def resume() -> None:
        options, before = chosen_options(tmp_path, given, "a-run", resume=True, or_start=False)
        _open_run(options, tmp_path / "a-run", before, given)

    with pytest.raises(OnibusError, match=f"run a-run was started with {flag}"):
        resume()
    assert load_options(tmp_path / "a-run") == a_run, "nothing is overwritten"
    assert len(sessions_of(tmp_path / "a-run")) == 1


def test_a_missing_run_is_an_error_unless_it_may_start(tmp_path: Path) -> None:
    with pytest.raises(OnibusError, match=r"there is no run a-run in .* to resume; give the --run of one"):
        resumed(tmp_path)
    options, before = chosen_options(tmp_path, {"task": "score"}, "a-run", resume=False, or_start=True)
    assert (options.task, options.run, before) == ("score", "a-run", None)


def test_a_container_that_gives_its_flags_again_changes_nothing(a_run: LearnOptions, tmp_path: Path) -> None:
    given = {"task": "score"} | OWN
    options, before = chosen_options(tmp_path, given, "a-run", resume=False, or_start=True)
    assert options == before == a_run
    assert not difference(a_run, options)


@pytest.mark.parametrize(
    ("given", "specs"),
    [
        ({}, ["goals=0.2", "combat=0.1"]),
        ({"reward": "classification"}, ["goals=0.2", "combat=0.1"]),
        ({"reward": "ranking"}, ["goals-pairs=0.24"]),
        ({"reward": "none"}, []),
        ({"specs": ["gold"]}, ["gold=0.4"]),
        ({"preset": "motif", "motif_model": "m"}, ["goals-pairs=0.1"]),
    ],
)
def test_specs_stay_unless_they_are_given_or_cannot_serve(
    a_run: LearnOptions, given: dict[str, Any], specs: list[str]
) -> None:
    assert [str(share) for share in resumed_options(a_run, **given).specs] == specs


def test_arguments_of_sample_factory_are_added_to_those_of_the_run(a_run: LearnOptions) -> None:
    first = resumed_options(a_run, sample_factory=["kl_loss_coeff=0.1", "adam_beta1=0.8"])
    second = resumed_options(first, sample_factory=["adam_beta1=0.7"])
    assert second.sample_factory == {"kl_loss_coeff": "0.1", "adam_beta1": "0.7"}


def test_a_run_that_begins_again_forgets_the_specs_of_one_that_was_never_saved(tmp_path: Path) -> None:
    options = make_options("score", run="a-run")
    save_options(options, tmp_path)
    keep_specs(tmp_path, {"goals": b"12345678"})
    _open_run(options, tmp_path, before=options)
    assert found_specs(tmp_path) == {"goals": b"12345678"}
    _open_run(options, tmp_path)
    assert not (tmp_path / SPECS_FILE).exists()


@pytest.mark.slow
def test_the_command_resumes_with_the_run_s_own_options(settings: Settings) -> None:
    own = ("--entropy", "0.02", "--seed", "9", "--extrinsic-coefficient", "0.7", "--steps", "1000")
    assert finish(start_learner(settings, "a-run", *own), 180) == 0
    folder = settings.runs_dir / "a-run"
    steps = checkpoint_of(folder)["env_steps"]
    result = learn_to_the_end(settings, "--run", "a-run", "--resume", "--steps", "3000", "--entropy", "0.03")
    assert result.returncode == 0, result.stderr
    assert "run a-run goes on with --entropy 0.03 (was 0.02), --steps 3000 (was 1000)" in result.stderr
    assert checkpoint_of(folder)["env_steps"] > steps
    options = load_options(folder)
    assert (options.seed, options.extrinsic_coefficient, options.entropy) == (9, 0.7, 0.03)
    assert (options.workers, options.environments, options.batch_size) == (1, 4, 256), SMALL
    cfg = json.loads((folder / "config.json").read_text())
    assert (cfg["seed"], cfg["exploration_loss_coeff"], cfg["num_workers"]) == (9, 0.03, 1)
    assert [row["given"] for row in sessions_of(folder)][1] == {"steps": 3000, "entropy": 0.03}
    assert (folder / SESSION_LOG).exists()
    again = learn_to_the_end(settings, "--run", "a-run", "--resume")
    assert again.returncode == 0, again.stderr
    assert "ends at --steps 3000: give it more, or --steps 0 for no limit" in again.stderr
    assert len(sessions_of(folder)) == 2
