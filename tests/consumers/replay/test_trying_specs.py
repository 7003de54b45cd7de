"""``onibus spec try`` and ``evaluate``: faults are found before anyone pays, what is paid for is shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.command import run_onibus, the_one_line
from tests.consumers.chat_server import ChatServer, chat_server

HELPFUL = (200, "verdict: helpful")


def judged_by(server: ChatServer, *more: str) -> list[str]:
    return ["--llm", "openai", "--base-url", server.url, "--model", "m", *more]


def test_reference_captions_of_one_kind_are_refused_before_anyone_pays(tmp_path: Path) -> None:
    one = {"caption": "It is dark.", "source": "score", "half": "second", "verdicts": {"goals": "helpful"}}
    (tmp_path / "own.jsonl").write_text(json.dumps(one) + "\n")
    with chat_server(lambda _: HELPFUL) as server:
        flags = judged_by(server, "--against", "own.jsonl")
        line = the_one_line(run_onibus("spec", "evaluate", "goals", *flags, folder=tmp_path))
        assert "all of one kind" in line
        assert not server.requests


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
