"""Sweeps on a real broker with real learners: killed in the middle, gone on with, compared at the end."""

from __future__ import annotations

import json
import signal

import psutil
import pytest

from onibus.infra.settings import Settings, environment_of
from onibus.learner.checkpoints import newest_checkpoint
from onibus.learner.run_files.caption_tally import CaptionTally
from onibus.learner.sweeping.state import is_done
from onibus.learner.sweeping.sweep_file import read_sweep
from tests.command import Running, run_onibus, start_onibus
from tests.learner.runs import all_gone
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.integration]

SMALL = """
name = "small"
tasks = "keyroom-s5"
rewards = ["retrieval", "none"]
specs = "keys-and-doors"
seeds = [1, 2]
[options]
steps = 6000
workers = 1
environments = 4
batch-size = 256
checkpoint-seconds = 1
[annotate]
llm = "rules"
"""


def start_sweep(settings: Settings, *arguments: str, command: str = "sweep") -> Running:
    environment = environment_of(settings) | {"CUDA_VISIBLE_DEVICES": ""}
    with (settings.runs_dir / "sweep.log").open("ab") as log:
        return start_onibus(*command.split(), *arguments, environment=environment, stdout=log, stderr=log)


@pytest.mark.timeout(900)
def test_a_sweep_that_is_killed_goes_on_where_it_was(settings: Settings) -> None:
    file = settings.runs_dir / "small.toml"
    file.write_text(SMALL.replace('["retrieval", "none"]', '"retrieval"').replace("[1, 2]", "[1, 2, 3]"))
    runs = read_sweep(str(file)).runs
    folders = {options.run: settings.runs_dir / options.run for options in runs}
    log = settings.runs_dir / "sweep.log"

    killed = start_sweep(settings, str(file))
    first, second = (folders[options.run] for options in runs[:2])
    wait_until(lambda: newest_checkpoint(second), 300, "a checkpoint of the second run")
    family = [psutil.Process(killed.pid), *psutil.Process(killed.pid).children(recursive=True)]
    assert len(family) > 3
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert is_done(first, runs[0])
    made_at = newest_checkpoint(first)
    assert made_at is not None
    before = made_at.stat().st_mtime_ns

    again = start_sweep(settings, str(file))
    assert again.wait(600) == 0, log.read_text()
    wait_until(all_gone(family), 60, "the end of what the killed sweep had started")
    assert all(is_done(folders[options.run], options) for options in runs)
    assert newest_checkpoint(first) == made_at
    assert made_at.stat().st_mtime_ns == before
    assert (second / "sessions").read_text().strip() == "2"
    assert (settings.runs_dir / "small.html").exists()
    assert "3 of 3 runs of small are done" in log.read_text()
    for folder in folders.values():
        assert sum(total.reward for total in CaptionTally.load(folder).totals.values()) > 0

    environment, folder = environment_of(settings), settings.runs_dir
    third = run_onibus("sweep", file, folder=folder, environment=environment)
    assert third.returncode == 0, third.stderr
    assert newest_checkpoint(first) == made_at
    shown = run_onibus(
        "compare", *folders, "--json", folder=settings.runs_dir, environment=environment_of(settings)
    )
    assert [group["seeds"] for group in json.loads(shown.stdout)["groups"]] == [[1, 2, 3]]


@pytest.mark.timeout(900)
def test_a_run_that_fails_is_named_and_the_others_are_made(settings: Settings) -> None:
    file = settings.runs_dir / "small.toml"
    file.write_text(SMALL.replace('["retrieval", "none"]', '"none"').replace("6000", "500"))
    broken = settings.runs_dir / "small-keyroom-s5-none-s1" / "checkpoint_p0"
    broken.mkdir(parents=True)
    (broken / "checkpoint_000000001_10.pth").write_text("torn")
    swept = start_sweep(settings, str(file))
    assert swept.wait(400) == 2
    said = (settings.runs_dir / "sweep.log").read_text()
    assert "1 runs failed (small-keyroom-s5-none-s1)" in said
    assert "cannot be read" in said
    assert "1 of 2 runs of small are done" in said


@pytest.mark.timeout(600)
def test_a_sweep_that_is_asked_to_stop_takes_its_runs_along(settings: Settings) -> None:
    file = settings.runs_dir / "small.toml"
    file.write_text(SMALL.replace("6000", "6000000"))
    swept = start_sweep(settings, str(file))
    folder = settings.runs_dir / read_sweep(str(file)).runs[0].run
    wait_until(lambda: newest_checkpoint(folder), 300, "a checkpoint of the first run")
    family = psutil.Process(swept.pid).children(recursive=True)
    swept.send_signal(signal.SIGTERM)
    assert swept.wait(60) == 130
    wait_until(all_gone(family), 20, "the end of the runs' processes")
    assert "the same command goes on" in (settings.runs_dir / "sweep.log").read_text()


@pytest.mark.timeout(1800)
def test_the_goal_steers_at_a_thousandth_of_its_steps(settings: Settings) -> None:
    swept = start_sweep(settings, command="bench goal-steers --seeds 1 --scale 0.001")
    log = settings.runs_dir / "sweep.log"
    assert swept.wait(1700) == 0, log.read_text()
    page = (settings.runs_dir / "bench-goal-steers-0.001" / "goal-steers.html").read_text()
    for spec in ("gold", "stairs", "combat"):
        assert f"retrieval, {spec}=" in page
    assert "4 of 4 runs of goal-steers are done" in log.read_text()
