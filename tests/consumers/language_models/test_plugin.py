"""``--llm module:factory``: a judge of the user's own, with a real broker and the real command."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

import onibus
from onibus.consumers.language_models.base import ModelRefusedError
from onibus.consumers.language_models.plugin import PluginModel
from onibus.consumers.specs.spec_file import announced_specs, load_spec_file
from onibus.infra.errors import OnibusError
from onibus.infra.process.components import Component
from onibus.infra.settings import Settings, environment_of
from onibus.schemas import ids
from tests.command import run_onibus, the_one_line
from tests.consumers.annotating import publish
from tests.waiting import wait_until

JUDGES = '''\
import asyncio
import onibus

__version__ = "7.1"


class ByLength:
    """Likes long captions."""

    async def answer(self, question):
        await asyncio.sleep(0)
        verdict = onibus.Verdict.HELPFUL if len(question.text) > 10 else onibus.Verdict.UNHELPFUL
        return onibus.Answer.of(question, verdict, reason="its length", tokens_in=3, tokens_out=1)


class Failing:
    async def answer(self, question):
        raise KeyError("no opinion")


class Evasive:
    async def answer(self, question):
        return "helpful"


class Confused:
    async def answer(self, question):
        return onibus.Answer.of(question, onibus.Verdict.FIRST)


def by_length(specs):
    return ByLength()


def failing(specs):
    return Failing()


def evasive(specs):
    return Evasive()


def confused(specs):
    return Confused()


class AtOnce:
    def answer(self, question):
        return onibus.Answer.of(question, onibus.Verdict.HELPFUL)


def at_once(specs):
    return AtOnce()


class Forgetful:
    async def answer(self, question):
        known = {"You see here a key.": onibus.Verdict.HELPFUL}
        return onibus.Answer.of(question, known[question.text])


def forgetful(specs):
    return Forgetful()


def broken(specs):
    raise ValueError("no weights")


def empty(specs):
    return object()
'''


@pytest.fixture
def judges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a module of judges, where the command is run."""
    (tmp_path / "judges.py").write_text(JUDGES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "judges", raising=False)
    return tmp_path


def asked(name: str, text: str) -> onibus.Answer:
    spec = load_spec_file("goals").for_model(f"judges:{name}", "")
    model = PluginModel(f"judges:{name}", {ids.spec_id(spec): spec})
    return asyncio.run(model.answer(onibus.Question(ids.spec_id(spec), text)))


def test_what_is_no_answer_ends_the_annotator_in_one_line(judges: Path) -> None:
    for name, says in (
        ("failing", r"--llm judges:failing failed: KeyError: 'no opinion' \(judges.py, line 18\); correct"),
        ("evasive", "--llm judges:evasive gave a str, not an Answer"),
        ("at_once", "--llm judges:at_once failed: its methods must be coroutines; write async def"),
        ("confused", "answered first; under a spec of kind judge_one it may say helpful, unhelpful, unsure"),
    ):
        with pytest.raises(ModelRefusedError, match=says):
            asked(name, "a key")
    for name, says in (
        ("broken", r"--llm judges:broken failed: ValueError: no weights \(judges.py, line"),
        ("empty", r"made a object without a method answer\(question\)"),
        ("nothing", "judges has no nothing"),
    ):
        with pytest.raises(OnibusError, match=says):
            asked(name, "a key")


def test_a_judge_that_cannot_answer_takes_no_name(settings: Settings, judges: Path) -> None:
    environment = environment_of(settings)
    said = the_one_line(
        run_onibus("annotate", "--llm", "judges:failing", folder=judges, environment=environment)
    )
    assert "--llm judges:failing failed: KeyError: 'no opinion'" in said
    assert not announced_specs(settings)


def test_there_is_no_such_judge(judges: Path) -> None:
    line = the_one_line(run_onibus("annotate", "--llm", "gpt", folder=judges))
    assert "--llm gpt: there is no such judge; give rules, openai, vllm, or module:factory" in line
    line = the_one_line(run_onibus("annotate", "--llm", "no_module:f", folder=judges))
    assert line.startswith("onibus: --llm no_module: there is no module no_module; run this in the folder")


def test_its_labels_name_it_and_its_version(settings: Settings, judges: Path) -> None:
    flags = ("annotate", "--llm", "judges:by_length", "--name", "judge")
    annotator = Component("judge", flags, settings.runs_dir / "judge.log")
    annotator.start(environment_of(settings))
    try:
        wait_until(lambda: "ready: annotator" in annotator.log_path.read_text(), 60, "the annotator")
        publish(settings, ["a long caption", "short"])
        wait_until(lambda: onibus.labels(spec="goals", settings=settings).num_rows == 2, 60, "labels")
    finally:
        annotator.ask_to_stop()
        annotator.wait_stopped()
    answers = onibus.annotations(spec="goals", settings=settings).to_pylist()
    verdicts = {a["texts"][0]: a["verdict"] for a in answers}
    assert verdicts == {"a long caption": "helpful", "short": "unhelpful"}
    assert {(a["model"], a["model_revision"]) for a in answers} == {("judges:by_length", "7.1")}
    assert {(a["tokens_in"], a["reason"]) for a in answers} == {(3, "its length")}


def test_one_that_fails_later_ends_the_command_with_one_line(settings: Settings, judges: Path) -> None:
    flags = ("annotate", "--llm", "judges:forgetful", "--name", "judge")
    annotator = Component("judge", flags, settings.runs_dir / "judge.log")
    annotator.start(environment_of(settings))
    wait_until(lambda: "ready: annotator" in annotator.log_path.read_text(), 60, "the annotator")
    publish(settings, ["a caption"])
    assert annotator.process is not None
    assert annotator.process.wait(60) == 2
    said = annotator.log_path.read_text()
    assert "onibus: --llm judges:forgetful failed: KeyError: 'a caption' (judges.py, line " in said
    assert "Traceback" not in said
