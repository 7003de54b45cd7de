"""Tasks of one's own on real parts: a broker, an annotator, a learner, and labels that pay."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import onibus
from onibus.infra.process.components import Component
from onibus.infra.settings import Settings, environment_of
from onibus.learner.run_files.history import read_history
from tests.command import OnibusProcess, run_onibus, the_one_line
from tests.consumers.replay.running import onibus as in_process
from tests.consumers.replay.running import refusal
from tests.learner.runs import checkpoint_of, learn_to_the_end, stop, wait_for_line
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

MODULE = "onibus.infra.examples.key_and_door"
EXAMPLES = Path(__file__).parents[1] / "infra" / "examples"
SPEC = EXAMPLES / "key-and-door.toml"
ROOMS = Path(__file__).parent / "producers" / "environments" / "rooms.py"
SMALL = ("--workers", "1", "--environments", "8", "--batch-size", "256")


def learner_of(settings: Settings, run: str, *flags: str) -> Component:
    learner = OnibusProcess(
        "learner", ("learn", "--run", run, *SMALL, *flags), settings.runs_dir / f"{run}.log"
    )
    learner.start(environment_of(settings) | {"CUDA_VISIBLE_DEVICES": ""})
    return learner


def test_the_example_learns_from_labels_over_the_bus(settings: Settings) -> None:
    folder = settings.runs_dir / "door"
    annotator = OnibusProcess("judge", ("annotate", "--spec", str(SPEC)), settings.runs_dir / "judge.log")
    annotator.start(environment_of(settings))
    learner = learner_of(settings, "door", "--import", MODULE, "--task", "key-and-door", "--steps", "200000")
    try:
        wait_until(lambda: rows(folder)[-1:] and rows(folder)[-1].get("labels_known", 0) > 0, 120, "labels")
        wait_until(lambda: rows(folder)[-1].get("intrinsic_reward", 0) > 0, 120, "labels that pay")
    finally:
        for part in (learner, annotator):
            part.ask_to_stop()
            part.wait_stopped()
    parts = [json.loads(line) for line in (folder / "parts.jsonl").read_text().splitlines()]
    assert parts[-1][MODULE] == onibus.__version__
    assert checkpoint_of(folder)["onibus"]["plugins"] == {MODULE: onibus.__version__}
    assert 0 <= rows(folder)[-1]["episode/key_taken"] <= 1

    labels = {
        row["caption"]: row["verdict"]
        for row in onibus.labels(spec="key-and-door", settings=settings).to_pylist()
    }
    assert labels["A small brass key lies here."] == "helpful"
    assert labels["There is no door here."] == "unhelpful"
    episodes = onibus.episodes(run="door", settings=settings).to_pylist()
    assert {(row["task"], row["plugin"]) for row in episodes} == {
        ("key-and-door", f"{MODULE} {onibus.__version__}")
    }

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return run_onibus(*arguments, folder=settings.runs_dir, environment=environment_of(settings))

    # In this process, where PyTorch is imported already.
    replayed = in_process(settings, "replay", "episode", "door/", "--import", MODULE)
    assert "the same as recorded" in replayed
    again = in_process(settings, "replay", "rewards", "door/", "--import", MODULE, "--spec", "key-and-door")
    assert "door/0/" in again
    assert "success" in in_process(settings, "evaluate", folder, "--episodes", "4")
    played = command("rollout", "--checkpoint", str(folder), "--episodes", "4")
    assert "4 episodes" in played.stdout
    assert "\x1b" not in played.stdout + played.stderr, "no line of Sample Factory's"
    report = command("report", str(folder))
    assert (report.returncode, report.stderr) == (0, "")
    assert "has no screen" in refusal(settings, "watch", folder, "--episodes", "1")
    assert f"add --import {MODULE} to play it again" in the_one_line(command("replay", "episode", "door/"))


def test_minigrid_is_rewarded_over_the_bus(settings: Settings) -> None:
    folder = settings.runs_dir / "grid"
    spec = str(EXAMPLES / "minigrid-door-key.toml")
    annotator = OnibusProcess("judge", ("annotate", "--spec", spec), settings.runs_dir / "judge.log")
    annotator.start(environment_of(settings))
    module = "onibus.infra.examples.minigrid_door_key"
    learner = learner_of(settings, "grid", "--import", module, "--task", "minigrid-doorkey-5x5")
    try:
        wait_until(lambda: rows(folder)[-1:], 120, "the run")
        wait_until(lambda: rows(folder)[-1].get("intrinsic_reward", 0) > 0, 120, "labels that pay")
    finally:
        for part in (learner, annotator):
            part.ask_to_stop()
            part.wait_stopped()
    assert checkpoint_of(folder)["onibus"]["plugins"][module]


def rows(folder: Path) -> list[dict[str, float]]:
    return read_history(folder) if folder.exists() else []


def learn_boxes(settings: Settings, *flags: str) -> None:
    """Learn from images, texts, dicts and continuous actions; the run is ``boxes``."""
    shutil.copy(ROOMS, settings.runs_dir)
    task = ("--import", "rooms", "--task", "counting-boxes", "--reward", "none", "--run", "boxes")
    done = learn_to_the_end(settings, *task, *SMALL, *flags, "--steps", "1000")
    assert done.returncode == 0, done.stderr
    assert rows(settings.runs_dir / "boxes")[-1]["return"] == 2.5
    weights = checkpoint_of(settings.runs_dir / "boxes")["model"]
    assert any(".letters." in name for name in weights), "texts are read letter by letter"


def evaluate_boxes(settings: Settings, *flags: str) -> None:
    command = ("evaluate", "boxes", "--episodes", "3", *flags)
    done = run_onibus(*command, folder=settings.runs_dir, environment=environment_of(settings))
    assert "3 episodes of counting-boxes" in done.stdout, done.stderr


def test_images_texts_dicts_and_continuous_actions_are_learned_from(settings: Settings) -> None:
    learn_boxes(settings)
    evaluate_boxes(settings)
    # It goes on with its own module and options.
    done = learn_to_the_end(settings, "--run", "boxes", "--resume", "--steps", "2000")
    assert done.returncode == 0, done.stderr


def test_the_full_network_learns_from_them(settings: Settings) -> None:
    learn_boxes(settings, "--network", "full")
    evaluate_boxes(settings, "--greedy")


def test_a_serial_run_learns_from_them(settings: Settings) -> None:
    learn_boxes(settings, "--serial")


def test_a_run_says_in_one_line_which_plug_in_failed(settings: Settings) -> None:
    shutil.copy(ROOMS, settings.runs_dir)
    task = ("--import", "rooms", "--task", "counting-in-words", "--reward", "none", "--run", "fails")
    done = learn_to_the_end(settings, *task, *SMALL, "--steps", "5000")
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert (
        "the captioner of task counting-in-words failed: KeyError: 'no words for 2' (rooms.py, line" in last
    )
    assert "Traceback" not in done.stderr
    shutil.rmtree(settings.runs_dir / "fails")


CHATTY = """\
import itertools

import onibus
from rooms import Counting

numbers = itertools.count()
__version__ = "1.0"
onibus.register_task("chatty", Counting, captioner=lambda step: f"The clock shows {next(numbers)}.")
"""


def test_ever_new_captions_and_an_edited_module_are_each_said_in_a_line(settings: Settings) -> None:
    shutil.copy(ROOMS, settings.runs_dir)
    module = settings.runs_dir / "chatty.py"
    module.write_text(CHATTY)
    run = ("--import", "chatty", "--task", "chatty", "--run", "talk", *SMALL)
    learner = OnibusProcess("learner", ("learn", *run), settings.runs_dir / "talk.log")
    learner.start(environment_of(settings) | {"CUDA_VISIBLE_DEVICES": ""})
    wait_for_line(learner, "each is judged by itself")
    folder = settings.runs_dir / "talk"
    seen = len(rows(folder))
    wait_until(lambda: len(rows(folder)) > seen + 1, 60, "two more looks at the captions")
    assert stop(learner) == 0
    said = learner.log_path.read_text()
    assert said.count("each is judged by itself") == 1
    assert re.search(r"mean return 2.500, [\d,]{5,} distinct captions, checkpoint", said)
    assert checkpoint_of(settings.runs_dir / "talk")["onibus"]["plugins"] == {"chatty": "1.0"}

    module.write_text(CHATTY + "# as loud as ever\n")
    steps = int(checkpoint_of(settings.runs_dir / "talk")["env_steps"])
    again = learn_to_the_end(settings, "--run", "talk", "--resume", "--steps", str(steps + 256))
    assert again.returncode == 0, again.stderr
    module.write_text(CHATTY + "# louder\n")
    played = [
        run_onibus(*command, folder=settings.runs_dir, environment=environment_of(settings))
        for command in (
            ("evaluate", "talk", "--episodes", "2"),
            ("rollout", "--checkpoint", str(settings.runs_dir / "talk"), "--episodes", "2"),
        )
    ]
    for done in (again, *played):
        assert done.stderr.count("chatty: edited since the checkpoint was written") == 1, done.stderr
    module.write_text(CHATTY + "# as loud as ever\n")
    back = run_onibus(
        "evaluate", "talk", "--episodes", "2", folder=settings.runs_dir, environment=environment_of(settings)
    )
    assert "edited" not in back.stderr
