"""``onibus learn --seeds``: runs that differ in their seed alone, made and compared as a sweep."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from onibus.infra.errors import OnibusError
from onibus.infra.settings import Settings, environment_of
from onibus.learner.checkpoints import newest_checkpoint
from onibus.learner.options import make_options
from onibus.learner.sweeping.seeds import sweep_over_seeds
from tests.command import run_onibus, the_one_line


def test_the_runs_are_those_of_learn_with_each_seed() -> None:
    sweep = sweep_over_seeds({"task": "score", "reward": "none", "steps": 100}, "a", "3, 1,3")
    assert sweep.runs == [
        make_options("score", run=f"a-s{seed}", reward="none", steps=100, seed=seed) for seed in (3, 1)
    ]
    assert (sweep.name, sweep.parallel, sweep.annotators) == ("a", 1, None)
    assert sweep_over_seeds({"steps": 100}, None, "7").runs[0].run == "keyroom-s5-retrieval-s7"


@pytest.mark.parametrize(
    ("given", "seeds", "said"),
    [
        ({"steps": 9}, "1,two", "'two' is not a number; write --seeds 1,2,3"),
        ({"steps": 9}, ",", "names none"),
        ({}, "1,2", "--seeds needs --steps"),
        ({"steps": 9, "seed": 1}, "1,2", "exclude each other"),
        ({"steps": 9, "until_return": 0.5}, "1", "--until-return would end runs"),
    ],
)
def test_what_does_not_go_with_seeds_is_one_clear_line(
    given: dict[str, object], seeds: str, said: str
) -> None:
    with pytest.raises(OnibusError, match=said):
        sweep_over_seeds(given, None, seeds)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_command_makes_each_run_once_and_compares_them(settings: Settings) -> None:
    small = ("--workers", 1, "--environments", 4, "--batch-size", 256, "--reward", "none", "--steps", 1000)
    command = ("learn", "--run", "two", "--seeds", "1,2", *small, "--no-captions")
    environment = environment_of(settings) | {"CUDA_VISIBLE_DEVICES": ""}
    folder: Path = settings.runs_dir
    done = run_onibus(*command, folder=folder, environment=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "2 of 2 runs of two are done" in done.stdout
    assert (folder / "two.html").exists()
    runs = [folder / name for name in ("two-s1", "two-s2")]
    made = [newest_checkpoint(run) for run in runs]
    assert None not in made
    assert [json.loads((run / "options.json").read_text())["seed"] for run in runs] == [1, 2]
    again = run_onibus(*command, folder=folder, environment=environment, timeout=300)
    assert again.returncode == 0, again.stderr
    assert [newest_checkpoint(run) for run in runs] == made
    refused = run_onibus(*command, "--resume", folder=folder, environment=environment)
    assert "leave --resume out" in the_one_line(refused)
