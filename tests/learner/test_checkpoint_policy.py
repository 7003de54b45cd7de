"""A checkpoint's policy on its own: from a run's folder, or from a checkpoint file wherever it lies."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from onibus.infra.errors import OnibusError
from onibus.infra.settings import Settings, environment_of
from onibus.learner.checkpoint_policy import load_policy
from onibus.learner.checkpoints import CHECKPOINT_FOLDER, newest_checkpoint, write_checkpoint
from onibus.learner.options import make_options, save_options
from tests.command import run_onibus
from tests.learner.runs import finish, start_learner

OPTIONS = make_options("keyroom-s5", run="a-run", seed=7)
CONTENT = {"model": {}, "train_step": 3, "env_steps": 100}


def test_a_lone_checkpoint_brings_its_options(tmp_path: Path) -> None:
    path = tmp_path / "downloads" / "mine.pth"
    write_checkpoint(path, CONTENT | {"onibus": {"options": OPTIONS.model_dump_json()}})
    assert load_policy(path).options == OPTIONS


def test_one_without_options_takes_those_of_its_run(tmp_path: Path) -> None:
    save_options(OPTIONS, tmp_path)
    write_checkpoint(tmp_path / CHECKPOINT_FOLDER / "checkpoint_000000003_100.pth", CONTENT)
    assert load_policy(tmp_path).options == OPTIONS
    assert load_policy(tmp_path).version == 3


def test_what_is_no_checkpoint_is_one_clear_line(tmp_path: Path) -> None:
    for name, content in (("empty.pth", b""), ("torn.pth", b"PK\3\4 torn"), ("text.pth", b"hello")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(OnibusError, match=rf"{name} cannot be read \([^\n]*\); give another"):
            load_policy(tmp_path / name)
    write_checkpoint(tmp_path / "other.pth", {"weights": {}})
    with pytest.raises(OnibusError, match=r"other\.pth cannot be read"):
        load_policy(tmp_path / "other.pth")


@pytest.mark.slow
def test_a_checkpoint_file_on_its_own_plays(settings: Settings, tmp_path: Path) -> None:
    assert finish(start_learner(settings, "a-run", "--steps", "500"), 180) == 0
    saved = newest_checkpoint(settings.runs_dir / "a-run")
    assert saved is not None
    alone = Path(shutil.copy(saved, tmp_path / "alone.pth"))
    flags = ("--checkpoint", alone, "--steps", 40, "--environments", 2, "--json")
    environment = environment_of(settings) | {"CUDA_VISIBLE_DEVICES": ""}
    played = run_onibus("rollout", *flags, folder=tmp_path, environment=environment)
    assert played.returncode == 0, played.stderr
    assert json.loads(played.stdout)["steps"] >= 40
