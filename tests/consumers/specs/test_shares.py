"""Verdicts by the share of several answers, and specs that ask for them."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from onibus.consumers.annotator.budget import dearest_question
from onibus.consumers.language_models.ask_until_readable import AskedSpec, Reply, answer_to
from onibus.consumers.language_models.base import Answer, Question
from onibus.consumers.specs.answer_format import AnswerFormat, Probability
from onibus.consumers.specs.shares import is_settled, share_of
from onibus.consumers.specs.spec_file import load_spec, load_spec_file
from onibus.infra.errors import OnibusError
from onibus.schemas.records import Verdict
from tests.consumers.chat_asking import ask, model
from tests.consumers.chat_server import chat_server, completion

YES, NO, UNSURE = Verdict.HELPFUL, Verdict.UNHELPFUL, Verdict.UNSURE

SPEC = """
base = "keys-and-doors-one-word"
name = "by-share"
[answer]
samples = {samples}
[sampling]
temperature = {temperature}
"""


def by_share(folder: Path, samples: int = 5, temperature: str = "0.8") -> Path:
    path = folder / "by-share.toml"
    path.write_text(SPEC.format(samples=samples, temperature=temperature))
    return path


@pytest.mark.parametrize(
    ("verdicts", "verdict", "share"),
    [
        ((YES, YES, NO), YES, 2 / 3),
        ((NO, NO, YES, NO), NO, 0.25),
        ((YES, NO), UNSURE, 0.5),
        ((UNSURE, YES), YES, 0.75),
        ((UNSURE, UNSURE, UNSURE), UNSURE, 0.5),
    ],
)
def test_the_share_decides(verdicts: tuple[Verdict, ...], verdict: Verdict, share: float) -> None:
    assert share_of(AnswerFormat(samples=5), verdicts) == (verdict, pytest.approx(share))


def test_threshold_and_band_are_the_specs() -> None:
    careful = AnswerFormat(samples=5, probability=Probability(threshold=0.7, unsure=0.15))
    shares = [share_of(careful, [YES] * n + [NO] * (5 - n)).verdict for n in range(6)]
    assert shares == [NO, NO, NO, UNSURE, UNSURE, YES]


def test_of_two_captions_the_first_has_the_share() -> None:
    words = {verdict: verdict.value for verdict in (Verdict.FIRST, Verdict.SECOND, Verdict.TIE)}
    two = AnswerFormat(samples=3, words=words)
    assert share_of(two, [Verdict.FIRST, Verdict.TIE]) == (Verdict.FIRST, 0.75)
    assert share_of(two, [Verdict.SECOND, Verdict.SECOND, Verdict.FIRST]).verdict is Verdict.SECOND


def test_every_sample_is_an_annotation_and_the_last_is_in_force(tmp_path: Path) -> None:
    spec = load_spec(by_share(tmp_path), "m")
    said = itertools.cycle(["helpful", "helpful", "unhelpful", "what?", "helpful"])
    with chat_server(lambda _: (200, completion(next(said)))) as server:
        (answer,) = ask(model(server.url, spec), "You see here a key.")
        assert len(server.requests) == 5
    assert answer.verdict is YES
    assert answer.confidence == 0.75
    last = answer.attempts[-1]
    assert (last.verdict, last.probability, last.raw_answer) == (YES, 0.75, "helpful")
    assert last.reason.startswith("share 0.75 of 4 answers")
    found = Counter(attempt.raw_answer for attempt in answer.attempts)
    assert found == {"helpful": 3, "unhelpful": 1, "what?": 1}
    assert not answer.given_up


def test_samples_of_which_none_can_be_read_are_given_up(tmp_path: Path) -> None:
    spec = load_spec(by_share(tmp_path, samples=3), "m")
    with chat_server(lambda _: (200, completion("what?"))) as server:
        (answer,) = ask(model(server.url, spec), "You see here a key.")
    assert (answer.verdict, len(answer.attempts)) == (UNSURE, 3)
    assert answer.given_up == "no verdict in 3 answers, last: 'what?'"


def test_a_budget_reckons_with_every_sample(tmp_path: Path) -> None:
    once = dearest_question([load_spec("keys-and-doors-one-word", "m")])
    often = dearest_question([load_spec(by_share(tmp_path, samples=30), "m")])
    assert often.tokens_in >= 10 * once.tokens_in


def test_one_sample_is_the_spec_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "same.toml"
    path.write_text('base = "goals"\nname = "goals"\n[answer]\nsamples = 1\n')
    assert load_spec(path, "m") == load_spec("goals", "m")
    assert "samples" not in json.loads(load_spec("goals", "m").parser)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"temperature": "0.0"}, "at temperature 0 all answers are the same"),
        ({"samples": 0}, "answer.samples"),
        ({"samples": 51}, "answer.samples"),
    ],
)
def test_samples_that_cannot_be_are_faults(tmp_path: Path, changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(OnibusError, match=fault):
        load_spec_file(by_share(tmp_path, **changes))


def test_a_seed_or_probabilities_exclude_samples(tmp_path: Path) -> None:
    path = by_share(tmp_path)
    path.write_text(path.read_text() + "seed = 3\n")
    with pytest.raises(OnibusError, match=r"leave sampling\.seed out"):
        load_spec_file(path)
    path.write_text('base = "goals-probability"\nname = "both"\n[answer]\nsamples = 3\n')
    with pytest.raises(OnibusError, match="one answer has the probabilities already"):
        load_spec_file(path)


def test_a_verdict_that_further_answers_could_change_is_open() -> None:
    three = AnswerFormat(samples=3)
    assert is_settled(three, [YES, YES], 1)
    assert not is_settled(three, [YES, NO], 1)
    assert not is_settled(three, [YES], 2)
    assert not is_settled(three, [], 3)


@pytest.mark.parametrize(("words", "verdict"), [(["yes", "yes"], YES), (["yes", "no"], None)])
def test_an_annotator_that_ends_gets_the_verdict_of_the_answers_that_came_if_it_is_settled(
    words: list[str], verdict: Verdict | None, tmp_path: Path
) -> None:
    spec = load_spec_file(by_share(tmp_path, samples=3)).for_model("m")
    answers = iter([spec_word(word) for word in words])

    async def ask_once(_: str) -> Reply | str:
        word = next(answers, None)
        if word is None:
            await asyncio.Event().wait()
        return Reply(str(word), 10, 1, 5)

    async def ended() -> Answer | None:
        asking = asyncio.ensure_future(answer_to(Question(b"", "It is dark."), AskedSpec(spec), ask_once))
        await asyncio.sleep(0)  # all are asked
        await asyncio.sleep(0)  # and those that can be are answered
        asking.cancel()
        try:
            return await asking
        except asyncio.CancelledError:
            return None

    answer = asyncio.run(ended())
    assert (answer.verdict if answer else None) is verdict
    assert answer is None or len(answer.attempts) == 2


def spec_word(word: str) -> str:
    words = load_spec_file("keys-and-doors-one-word").answer.words
    return words[YES if word == "yes" else NO]
