"""``infra/docs/extending.md`` from its first line to its last: its files are written, its commands run."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import pytest

import onibus
from onibus.infra.process.components import Component
from onibus.infra.settings import Settings, environment_of
from onibus.learner.run_files.history import read_history
from tests.command import OnibusProcess, run_onibus
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "infra" / "docs" / "extending.md"
BLOCK = re.compile(r"```(python|toml|des|sh)\n(.*?)```", re.DOTALL)
NAME = re.compile(r"# ([\w.]+)\n")


def blocks() -> Iterator[tuple[str, str]]:
    """Of each block its language and its content, in order."""
    for block in BLOCK.finditer(PAGE.read_text()):
        yield block.group(1), block.group(2)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_page_does_what_it_says(settings: Settings, tmp_path: Path) -> None:
    here = settings.model_copy(update={"runs_dir": tmp_path / "runs"})
    environment = environment_of(here) | {"CUDA_VISIBLE_DEVICES": ""}
    annotators: list[Component] = []
    ran = 0
    try:
        for language, content in blocks():
            named = NAME.match(content)
            if named is not None:
                (tmp_path / named.group(1)).write_text(content)
            for line in content.splitlines() if language == "sh" else ():
                program, *arguments = shlex.split(line)
                assert program == "onibus"
                if arguments[:2] == ["broker", "start"]:
                    continue  # there is one
                ran += 1
                if arguments[0] == "annotate":
                    annotators.append(_annotator(arguments, environment, tmp_path / f"judge-{ran}.log"))
                    continue
                done = run_onibus(*arguments, folder=tmp_path, environment=environment, timeout=400)
                assert done.returncode == 0, (line, done.stderr)
    finally:
        for annotator in annotators:
            annotator.ask_to_stop()
        for annotator in annotators:
            annotator.wait_stopped()
    assert ran >= 10
    labels = {(r["caption"], r["verdict"]) for r in onibus.labels(spec="corridor", settings=here).to_pylist()}
    assert ("You pull the lever. Something clicks in the distance.", "helpful") in labels
    models = set(onibus.annotations(spec="corridor", settings=here)["model"].to_pylist())
    assert {"rules", "judge:make"} >= models >= {"rules"}
    assert "episode/lever" in read_history(here.runs_dir / "first")[-1]


def _annotator(arguments: list[str], environment: dict[str, str], log: Path) -> Component:
    annotator = OnibusProcess("judge", tuple(arguments), log)
    annotator.start(environment)
    wait_until(lambda: "ready: annotator" in log.read_text() or annotator.check(), 60, "the annotator")
    return annotator


def test_its_python_is_formatted_and_its_entry_point_group_is_the_one_that_is_read() -> None:
    from onibus.producers.environments.tasks import ENTRY_POINTS

    assert f'[project.entry-points."{ENTRY_POINTS}"]' in PAGE.read_text()
    for language, content in blocks():
        if language == "python":
            formatted = subprocess.run(
                [sys.executable, "-m", "ruff", "format", "--line-length", "110", "-"],
                input=content,
                capture_output=True,
                text=True,
                check=True,
            )
            assert formatted.stdout == content


TYPED = '''\
"""A package outside the repository: everything that can be plugged in, with types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

import onibus


def say(step: onibus.Transition) -> str | None:
    return "done" if step.terminated else None


class Judge:
    def __init__(self, specs: Mapping[bytes, onibus.AnnotationSpec]) -> None:
        self.goals = {spec_id: spec.goal for spec_id, spec in specs.items()}

    async def answer(self, question: onibus.Question) -> onibus.Answer:
        helpful = self.goals[question.spec_id] in question.text
        return onibus.Answer.of(question, onibus.Verdict.HELPFUL if helpful else onibus.Verdict.UNSURE)


class Payment:
    def __call__(self, batch: onibus.RewardBatch) -> NDArray[np.float32]:
        paid: NDArray[np.float32] = np.tensordot(batch.coefficients, batch.helpful, 1)
        return paid


def make() -> gym.Env[Any, Any]:
    return gym.make("CartPole-v1")


onibus.register_task("pole", make, captioner=say)
environment = onibus.CaptionWrapper(make(), say)
'''
WRONG = """\
import gymnasium as gym
import onibus


def say(step: onibus.Transition) -> int:
    return step.rewards


onibus.register_task("pole", lambda: gym.make("CartPole-v1"), captioner=say)
onibus.Answer.of("a text", onibus.Verdict.HELPFUL)
"""


@pytest.mark.slow
def test_types_of_a_package_outside_the_repository_are_checked(tmp_path: Path) -> None:
    package = tmp_path / "pole_task"
    package.mkdir()
    (package / "__init__.py").write_text(TYPED)
    (tmp_path / "wrong.py").write_text(WRONG)

    # Once for both, and with lint's settings and cache: nearly all of its time goes into what they import.
    # Lint passes over a gymnasium without types, which the package would be told of: there are some.
    assert (Path(gymnasium.__file__).parent / "py.typed").exists()
    lint = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(ROOT / ".mypy_cache")]
    said = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", *lint, "pole_task", "wrong.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    wrong = [line for line in said.splitlines() if line.startswith("wrong.py:")]
    assert '"Transition" has no attribute "rewards"' in said
    assert 'expected "Callable[[Transition], str | None] | None"' in said
    assert 'Argument 1 to "of" of "Answer" has incompatible type "str"; expected "Question"' in said
    assert said.splitlines()[:-1] == wrong, "there is nothing else to find fault with"
    assert said.splitlines()[-1].endswith("(checked 2 source files)")
