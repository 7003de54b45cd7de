"""``onibus spec try`` and ``evaluate``: faults are found before anyone pays, what is paid for is shown."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from tests.command import run_onibus, the_one_line
from tests.consumers.chat_server import ChatServer, chat_server

HELPFUL = (200, "verdict: helpful")


def judged_by(server: ChatServer, *more: str) -> list[str]:
    return ["--llm", "openai", "--base-url", server.url, "--model", "m", *more]


def twice(flag: str, *values: str) -> list[str]:
    return [word for value in values for word in (flag, value)]


def own_set(folder: Path, verdicts: dict[str, str]) -> list[str]:
    """Flags for judged captions of one's own."""
    rows = [json.dumps({"caption": caption, "verdict": verdict}) for caption, verdict in verdicts.items()]
    (folder / "own.jsonl").write_text("\n".join(rows))
    return ["--against", "own.jsonl"]


# By the bytes of their ids, both are in the first half of a set.
BOTH_KINDS = {"You kill the newt!": "helpful", "It's a wall.": "unhelpful"}


@pytest.mark.parametrize(
    ("verdicts", "half", "complaint"),
    [
        ({"It is dark.": "helpful"}, [], "no captions are helpful, or none unhelpful"),
        ({}, [], "own.jsonl holds no captions"),
        ({"\ud800": "helpful"}, [], "line 1: 'utf-8' codec can't encode"),
        (BOTH_KINDS, ["--half", "second"], "not in this half; give --half all"),
    ],
)
def test_reference_captions_of_one_kind_are_refused_before_anyone_pays(
    tmp_path: Path, verdicts: dict[str, str], half: list[str], complaint: str
) -> None:
    with chat_server(lambda _: HELPFUL) as server:
        flags = judged_by(server, *own_set(tmp_path, verdicts), *half)
        assert complaint in the_one_line(run_onibus("spec", "evaluate", "goals", *flags, folder=tmp_path))
        assert not server.requests


def test_captions_of_ones_own_are_all_asked_about_once_however_often_a_spec_is_named(tmp_path: Path) -> None:
    builtin = str(Path(str(files("onibus.consumers.specs"))) / "builtin" / "goals.toml")
    own = BOTH_KINDS | {"It is dark.": "unsure"}
    with chat_server(lambda _: HELPFUL) as server:
        flags = judged_by(server, *own_set(tmp_path, own), *twice("--compare", "goals", builtin), "--json")
        done = run_onibus("spec", "evaluate", "goals", *flags, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        assert len(server.requests) == 1 + len(BOTH_KINDS)
    assert list(json.loads(done.stdout)) == ["goals"]


@pytest.mark.parametrize("other", ["nosuch", "goals-pairs", "bad.toml"])
def test_no_spec_is_asked_about_before_all_that_are_compared_are_right(tmp_path: Path, other: str) -> None:
    (tmp_path / "bad.toml").write_text('base = "goals"\nname = "bad"\ntemplate = "{{ captoin }}"\n')
    with chat_server(lambda _: HELPFUL) as server:
        flags = judged_by(server, "--compare", other)
        the_one_line(run_onibus("spec", "evaluate", "goals", *flags, folder=tmp_path))
        assert not server.requests


def test_a_spec_that_the_server_cannot_answer_is_found_by_the_questions_of_the_start(tmp_path: Path) -> None:
    with chat_server(lambda _: HELPFUL) as server:
        flags = judged_by(server, "--compare", "goals-probability")
        line = the_one_line(run_onibus("spec", "evaluate", "goals", *flags, folder=tmp_path))
        assert "without log-probabilities" in line
        assert len(server.requests) == 2


def test_what_was_asked_is_shown_though_the_next_spec_fails(tmp_path: Path) -> None:
    goal = "gold pieces are worth everything"
    (tmp_path / "gold.toml").write_text(f'base = "goals"\nname = "gold"\ngoal = "{goal}"\n')

    def reply(body: dict[str, Any]) -> tuple[int, str]:
        return (401, "revoked") if goal in body["messages"][-1]["content"] else HELPFUL

    with chat_server(reply) as server:
        flags = judged_by(server, "--compare", "gold.toml", "--json")
        failed = run_onibus("spec", "evaluate", "goals", *flags, "--goal", "goals", folder=tmp_path)
    assert failed.returncode == 2
    assert "refuses the key" in failed.stderr
    assert list(json.loads(failed.stdout)) == ["goals"]


def test_the_questions_of_the_start_are_part_of_what_is_shown(tmp_path: Path) -> None:
    with chat_server(lambda _: HELPFUL) as server:
        flags = judged_by(server, "--price-in", "1")
        tried = ["spec", "try", "goals", "--caption", "You see here a key.", *flags]
        said = json.loads(run_onibus(*tried, "--json", folder=tmp_path).stdout)
        shown = run_onibus(*tried, folder=tmp_path).stdout
    assert said["tokens_of_the_start"] > 0
    assert said["usd_of_the_start"] > 0
    assert "; at the start " in shown
