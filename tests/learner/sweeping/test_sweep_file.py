"""Sweep files: which runs they stand for, and the commands that make them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import onibus
from onibus.infra.errors import OnibusError
from onibus.infra.settings import load_settings
from onibus.learner.checkpoints import CHECKPOINT_FOLDER
from onibus.learner.options import LearnOptions, make_options, save_options
from onibus.learner.sweeping.clusters import kubernetes_job, slurm_script
from onibus.learner.sweeping.state import check_fits, is_done, reached
from onibus.learner.sweeping.sweep_file import learn_arguments, read_sweep
from tests.command import REPOSITORY, run_onibus, the_one_line
from tests.command_lines import complaint, onibus_command


def written(folder: Path, text: str) -> str:
    (folder / "mine.toml").write_text(text)
    return str(folder / "mine.toml")


def parsed(arguments: list[str]) -> LearnOptions:
    """What ``onibus learn`` makes of its arguments."""
    given = onibus_command().commands["learn"].make_context("learn", arguments[1:]).params
    fields = {k: v for k, v in given.items() if k in LearnOptions.model_fields and v not in (None, [], ())}
    return make_options(fields.pop("task"), **fields)


def test_the_goal_steers_is_three_goals_and_none_on_three_seeds() -> None:
    sweep = read_sweep("goal-steers")
    assert [run.run for run in sweep.runs] == [
        *(
            f"goal-steers-score-retrieval-{spec}-s{n}"
            for spec in ("gold", "stairs", "combat")
            for n in (1, 2, 3)
        ),
        *(f"goal-steers-score-none-s{n}" for n in (1, 2, 3)),
    ]
    assert {run.extrinsic_coefficient for run in sweep.runs} == {0.0}
    assert {run.specs for run in sweep.runs if run.reward == "none"} == {()}
    assert sweep.annotators is not None
    assert complaint(sweep.annotators) == ""
    assert [run.steps for run in read_sweep("goal-steers", 0.01).runs] == [20_000] * 12


def test_learn_takes_the_arguments_of_a_run_as_they_are_meant(tmp_path: Path) -> None:
    text = """
        tasks = ["keyroom-s5", "score"]
        rewards = ["retrieval", "ranking", "none"]
        specs = ["gold@453e12", "goals=0.4 + combat=0.1"]
        [options]
        steps = 5000
        sample-factory = ["num_batches_per_epoch=2", "kl_loss_coeff=0.1"]
        vtrace = true
        max-episode-steps = 70
        captions = false
        [grid]
        learning-rate = [1e-4, 0.002]
        network = ["small", "full"]
    """
    runs = read_sweep(written(tmp_path, text)).runs
    assert len(runs) == 2 * (2 + 2 + 1) * 4
    for run in runs:
        arguments = learn_arguments(run)
        assert parsed(arguments) == run
        assert arguments[-1] == "--resume-or-start"
    names = {run.run: run for run in runs}
    mixed = names["mine-score-ranking-goals-pairs=0.4-combat-pairs=0.1-learning-rate-0.0001-network-full-s0"]
    assert [share.name for share in mixed.specs] == ["goals-pairs", "combat-pairs"]


def test_a_sweep_takes_a_task_of_ones_own(tmp_path: Path) -> None:
    text = """
        tasks = ["key-and-door"]
        seeds = [1, 2]
        [options]
        steps = 1000
        import = ["onibus.infra.examples.key_and_door"]
    """
    runs = read_sweep(written(tmp_path, text)).runs
    assert [[share.name for share in run.specs] for run in runs] == [["key-and-door"]] * 2
    for run in runs:
        arguments = learn_arguments(run)
        assert "--import onibus.infra.examples.key_and_door" in " ".join(arguments)
        assert parsed(arguments) == run


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tasks = 'score'", "options need steps"),
        ("task = 'score'\n[options]\nsteps = 5", "tasks: Field required"),
        ("tasks = 'score'\n[options]\nsteps = 5\ntusk = 1", "onibus learn has no --tusk"),
        ("tasks = 'score'\n[options]\nsteps = 5\nseed = 1", "seed has its own place"),
        ("tasks = 'score'\n[options]\nsteps = 5\nseconds = 1", "seconds would end runs early"),
        ("tasks = 'score'\n[options]\nsteps = 5\n[grid]\nsteps = [1]", "steps is in options and in grid"),
        ("tasks = 'score'\n[options]\nsteps = 5\ndiscount = 2", "--discount"),
        ("tasks = 'score'\nrewards = 'praise'\n[options]\nsteps = 5", "praise"),
        ("tasks = ", "is not TOML"),
    ],
)
def test_what_is_wrong_in_a_file_is_one_clear_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(OnibusError, match=says) as refused:
        read_sweep(written(tmp_path, text))
    assert "\n" not in str(refused.value)
    with pytest.raises(OnibusError, match="cannot read the sweep file nowhere"):
        read_sweep("nowhere")


def test_a_run_is_done_when_a_checkpoint_has_all_its_steps(tmp_path: Path) -> None:
    options = read_sweep("goal-steers", 0.001).runs[0]
    folder = tmp_path / options.run
    assert not is_done(folder, options)
    check_fits(folder, options)
    save_options(options.model_copy(update={"steps": 100}), folder)
    check_fits(folder, options)
    (folder / CHECKPOINT_FOLDER).mkdir()
    (folder / CHECKPOINT_FOLDER / "checkpoint_000000009_1999.pth").touch()
    assert not is_done(folder, options)
    (folder / CHECKPOINT_FOLDER / "checkpoint_000000010_2048.pth").touch()
    assert is_done(folder, options)
    save_options(options.model_copy(update={"discount": 0.5}), folder)
    with pytest.raises(OnibusError, match=r"there with another discount \(0.5, not 0.999\); give the sweep"):
        check_fits(folder, options)


def test_the_last_whole_row_of_a_history_is_how_far_a_run_is(tmp_path: Path) -> None:
    rows = [json.dumps({"env_steps": n, "padding": "x" * 99}) for n in range(1000)]
    (tmp_path / "history.jsonl").write_text("\n".join(rows) + '\n{"env_steps": 10')
    assert reached(tmp_path).row["env_steps"] == 999
    assert reached(tmp_path / "nothing").row == {}


def test_every_task_of_a_slurm_array_makes_its_run(tmp_path: Path) -> None:
    sweep = read_sweep("goal-steers")
    script = tmp_path / "job.sh"
    script.write_text(
        slurm_script(load_settings(), sweep, 4).replace('exec onibus "$@"', 'printf "%s\\n" "$@"')
    )
    assert "#SBATCH --array=0-11%4" in script.read_text()
    for number, run in enumerate(sweep.runs):
        said = _sh(script, str(number))
        assert said.stdout.splitlines() == [*learn_arguments(run), "--runs-dir", "runs"]
        assert complaint(said.stdout.splitlines()) == ""
    assert _sh(script, "12").returncode == 2


def test_the_kubernetes_job_is_like_the_learner_that_is_deployed() -> None:
    sweep = read_sweep("goal-steers")
    claim, job = json.loads(kubernetes_job(sweep, 4, onibus.__version__))["items"]
    deployed = yaml.safe_load((REPOSITORY / "infra" / "deploy" / "kubernetes" / "learner.yaml").read_text())
    theirs, ours = deployed["spec"]["template"]["spec"], job["spec"]["template"]["spec"]
    for name in ("securityContext", "automountServiceAccountToken", "terminationGracePeriodSeconds"):
        assert ours[name] == theirs[name]
    (container,), (learner,) = ours["containers"], theirs["containers"]
    for name in ("image", "envFrom", "securityContext", "volumeMounts"):
        assert container[name] == learner[name]
    assert {v["name"] for v in ours["volumes"]} == {m["name"] for m in container["volumeMounts"]}
    assert ours["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert (job["spec"]["completions"], job["spec"]["parallelism"]) == (12, 4)
    assert container["command"][2].count("set -- learn") == 12


def test_the_command_writes_both_and_says_what_is_wrong(tmp_path: Path) -> None:
    written_both = run_onibus(
        "sweep", "goal-steers", "--slurm", "job.sh", "--kubernetes", "job.json", folder=tmp_path
    )
    assert written_both.returncode == 0, written_both.stderr
    assert "12 runs: sbatch job.sh" in written_both.stdout
    assert "onibus annotate --spec gold --spec stairs --spec combat --llm rules" in written_both.stdout
    assert {file.name for file in tmp_path.iterdir()} >= {"job.sh", "job.json"}
    assert "cannot read the sweep file x.toml" in the_one_line(run_onibus("sweep", "x.toml", folder=tmp_path))


def _sh(script: Path, number: str) -> Any:
    environment = {**os.environ, "SLURM_ARRAY_TASK_ID": number, "PATH": f"{Path(sys.executable).parent}:/bin"}
    return subprocess.run(
        ["/bin/sh", str(script)], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
