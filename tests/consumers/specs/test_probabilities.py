"""Verdicts from the probabilities of words: read, calibrated, kept with the answers."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from onibus.consumers.language_models.base import ModelRefusedError
from onibus.consumers.language_models.completions import reply_of
from onibus.consumers.language_models.comprehension import FIRST_ANSWERS
from onibus.consumers.language_models.openai import OpenAIModel
from onibus.consumers.specs.answer_format import AnswerFormat, Probability
from onibus.consumers.specs.probabilities import LogOdds, judged, likeliest_of, log_odds
from onibus.consumers.specs.spec_file import load_spec_file
from onibus.infra.errors import OnibusError
from onibus.infra.settings import Settings
from onibus.schemas import codec, ids
from onibus.schemas.records import Annotation, Label, Verdict
from tests.consumers.annotating import annotator, publish, records, wait_for_labels
from tests.consumers.chat_asking import ask, check, model
from tests.consumers.chat_server import chat_server

YES_NO = AnswerFormat(parser="probability", words={Verdict.HELPFUL: "Yes", Verdict.UNHELPFUL: "No"})
OWN = """
name = "odds"
kind = "judge_one"
goal = "Win."
template = "{{ goal }} Message: {{ caption | quoted }} Good:"
messages = [
    {role = "system", content = "You judge: {{ goal }}"},
    {role = "user", content = "a"},
    {role = "assistant", content = "Yes"},
]

[answer]
parser = "probability"
words = {helpful = "Yes", unhelpful = "No"}

[answer.probability]
unsure = 0.1
content_free = ["N/A", ""]
"""


def test_a_word_counts_with_all_tokens_that_begin_it_and_not_the_other() -> None:
    said = {
        " Yes": math.log(0.3),
        "yes": math.log(0.1),
        "Y": math.log(0.1),
        " No": math.log(0.25),
        " the": -5.0,
    }
    assert log_odds(YES_NO, said) == pytest.approx((math.log(0.5 / 0.25),) * 3)
    words = {Verdict.HELPFUL: "helpful", Verdict.UNHELPFUL: "unhelpful"}
    long = AnswerFormat(parser="probability", words=words)
    assert log_odds(long, {" un": -1.0, " help": -2.0}) == pytest.approx((-1.0, -1.0, -1.0))


def test_a_word_that_is_not_among_the_likeliest_is_as_likely_as_the_least_of_them() -> None:
    left = math.log(1 - math.exp(-0.1) - math.exp(-4.0))  # less than eight spellings as likely as " maybe"
    assert log_odds(YES_NO, {" Yes": -0.1, " maybe": -4.0}) == pytest.approx((3.9, -0.1 - left, math.inf))
    assert log_odds(YES_NO, {" maybe": -4.0}) is None


def test_threshold_band_and_calibration() -> None:
    how = Probability(threshold=0.6, unsure=0.05, scale=2.0, offset=1.0)
    form = YES_NO.model_copy(update={"probability": how})
    found = {odds: judged(form, LogOdds.known(odds)) for odds in (0.0, -5.0)}
    assert found[0.0] == (Verdict.HELPFUL, pytest.approx(1 / (1 + math.exp(-1))))
    assert found[-5.0] == (Verdict.UNHELPFUL, pytest.approx(0.0, abs=1e-3))
    unsure = judged(form, LogOdds.known(0.0), baseline=0.25)
    assert unsure == (Verdict.UNSURE, pytest.approx(0.62, abs=0.01))


def test_other_formats_keep_their_spec_ids() -> None:
    known = {"goals": "3372170b031fa57b", "gold": "9268a6b4ab04540b", "goals-one-word": "419737d469d62883"}
    for name, spec_id in known.items():
        assert ids.spec_id(load_spec_file(name).for_model("m")).hex() == spec_id
    assert "probability" not in AnswerFormat().canonical()
    assert "probability" in YES_NO.model_copy(update={"probability": Probability()}).canonical()


def completion(odds: float) -> dict[str, Any]:
    top = [{"token": " Yes", "logprob": -4.0 + odds}, {"token": "No", "logprob": -4.0}]
    choice = {"message": {"content": "Yes"}, "finish_reason": "length"}
    choice["logprobs"] = {"content": [{"top_logprobs": top}]}
    return {"choices": [choice], "usage": {"prompt_tokens": 10, "completion_tokens": 1}}


def test_a_server_is_asked_for_probabilities_and_labels_carry_their_confidence(
    settings: Settings, tmp_path: Path
) -> None:
    path = tmp_path / "own.toml"
    path.write_text(OWN)
    spec = load_spec_file(path).for_model("m")
    specs = {ids.spec_id(spec): spec}

    def reply(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        asked = body["messages"][-1]["content"]
        return 200, completion(3.0 if "key" in asked else 1.05 if "dark" in asked else 1.0)

    with chat_server(reply) as server:
        model = OpenAIModel(specs, server.url, "k", 8)
        with annotator(settings, "a1", specs, model):
            publish(settings, ["You see here a key.", "It is dark."])
            wait_for_labels(settings, 2)
    request = server.requests[0]
    assert (request["logprobs"], request["top_logprobs"], request["max_tokens"]) == (True, 20, 1)
    assert [m["role"] for m in request["messages"]] == ["system", "user", "assistant", "user"]
    assert request["messages"][0]["content"] == "You judge: Win."
    written = [codec.decode(Annotation, r.value) for r in records(settings, "annotations")]
    answers = {a.texts[0]: a for a in written}
    key, dark = answers["You see here a key."], answers["It is dark."]
    assert (key.verdict, dark.verdict) == (Verdict.HELPFUL, Verdict.UNSURE), "1.0 is what empty captions get"
    assert key.probability == pytest.approx(1 / (1 + math.exp(-2.0)))
    assert json.loads(key.raw_answer) == {" Yes": -1.0, "No": -4.0}
    labels = {r.key[8:]: codec.decode(Label, r.value) for r in records(settings, "labels")}
    assert labels[ids.caption_id("You see here a key.")].confidence == pytest.approx(key.probability)
    assert labels[ids.caption_id("It is dark.")].confidence is None


def test_a_plain_prompt_goes_to_the_server_as_it_stands(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    plain = OWN.replace("unsure = 0.1", "plain = true").replace('content_free = ["N/A", ""]', "")
    before, _, after = plain.partition("messages = [")
    path.write_text(before + after.partition("\n]\n")[2])
    spec = load_spec_file(path).for_model("m")
    specs = {ids.spec_id(spec): spec}
    body = {"choices": [{"text": " Yes", "finish_reason": "length",
                         "logprobs": {"top_logprobs": [{" Yes": -0.1, " No": -3.0}]}}]}  # fmt: skip
    with (
        chat_server(lambda _: (200, body)) as server,
        annotator(settings, "a1", specs, OpenAIModel(specs, server.url, "k", 8)),
    ):
        publish(settings, ["You see here a key."])
        wait_for_labels(settings, 1)
    assert {request.get("prompt", "")[:4] for request in server.requests} == {"Win."}
    assert not any("messages" in request for request in server.requests)


def test_a_server_without_probabilities_is_refused_after_one_question(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(OWN)
    body = completion(0.0)
    del body["choices"][0]["logprobs"]
    for asking in (check, lambda asked: ask(asked, "x")):
        with chat_server(lambda _: (200, body)) as server:
            asked = model(server.url, load_spec_file(path).for_model("m"))
            with pytest.raises(ModelRefusedError, match=r"answers without log-probabilities.*samples"):
                asking(asked)
            assert len(server.requests) == 1


def test_the_other_word_has_at_most_what_the_first_leaves() -> None:
    most = math.log(1 - math.exp(-0.02)) + 0.02
    assert log_odds(YES_NO, {" No": -0.02}) == pytest.approx((most, -math.inf, most))
    assert log_odds(YES_NO, {" Yes": 0.0}) == pytest.approx((-math.log(1e-4), -math.log(1e-4), math.inf))


@pytest.mark.parametrize(
    ("likeliest", "verdict"),
    [
        ({" No": -3.0}, None),
        ({" No": -0.673}, None),  # half of all, so " Yes" may have the other half
        ({" No": -0.1}, Verdict.UNHELPFUL),
        ({" Yes": -0.673}, Verdict.HELPFUL),  # at least as likely as " No", and the offset adds to that
        ({" the": -0.1, " Yes": -4.0}, None),  # " No", "no", "N" and so on may have more together
        ({" the": -0.1, " Yes": -4.0, " a": -8.0}, Verdict.HELPFUL),
        ({" the": -0.1, " No": -4.0}, None),
        ({" No": -0.673, " Yes": -0.8}, Verdict.HELPFUL),
    ],
)
def test_one_word_alone_decides_only_where_all_that_the_other_may_have_says_the_same(
    likeliest: dict[str, float], verdict: Verdict | None
) -> None:
    form = YES_NO.model_copy(update={"probability": Probability(offset=1.3)})
    odds = log_odds(form, likeliest)
    assert odds is not None
    found = judged(form, odds)
    assert (found.verdict if found else None) is verdict


@pytest.mark.parametrize("odd", [5.0, True, "-0.1", [], math.inf, 10**400, -0.1])
def test_numbers_that_cannot_be_log_probabilities_leave_none(odd: object) -> None:
    assert likeliest_of([(" Yes", odd), (" No", -0.2)]) == {}


def test_likeliest_tokens_that_are_as_good_as_impossible_leave_none() -> None:
    assert likeliest_of([(" Yes", -20.0), (" No", -21.0)]) == {}


def test_each_spec_that_reads_probabilities_is_tried_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(OWN)
    specs = [load_spec_file(name).for_model("m") for name in ("goals", path)]
    with chat_server(lambda _: (200, "verdict: helpful")) as server:
        asked = OpenAIModel({ids.spec_id(spec): spec for spec in specs}, server.url, "k", 8)
        with pytest.raises(ModelRefusedError, match="answers without log-probabilities"):
            check(asked)
        assert len(server.requests) == 2


def test_probabilities_without_either_word_are_asked_for_once_and_have_their_own_advice(
    tmp_path: Path,
) -> None:
    path = tmp_path / "own.toml"
    path.write_text(OWN)
    body = completion(0.0)
    body["choices"][0]["logprobs"]["content"][0]["top_logprobs"] = [{"token": "The", "logprob": -0.1}]
    with chat_server(lambda _: (200, body)) as server:
        asked = model(server.url, load_spec_file(path).for_model("m"))
        with pytest.raises(
            ModelRefusedError, match=r"end the template so that one of the \[answer\] words"
        ) as refused:
            ask(asked, *map(str, range(FIRST_ANSWERS)))
        assert len(server.requests) == FIRST_ANSWERS
    assert "max_tokens" not in str(refused.value)


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf, None, "x", []])
def test_what_is_no_log_probability_is_left_out_and_costs_one_question(tmp_path: Path, odd: object) -> None:
    path = tmp_path / "own.toml"
    path.write_text(OWN)
    body = completion(0.0)
    for token in body["choices"][0]["logprobs"]["content"][0]["top_logprobs"]:
        token["logprob"] = odd
    for asking in (check, lambda asked: ask(asked, "x")):
        with chat_server(lambda _: (200, body)) as server:
            asked = model(server.url, load_spec_file(path).for_model("m"))
            with pytest.raises(ModelRefusedError, match="answers without log-probabilities"):
                asking(asked)
            assert len(server.requests) == 1


@pytest.mark.parametrize("nothing", [math.nan, -math.inf, None])
def test_tokens_without_a_log_probability_are_left_out(nothing: object) -> None:
    assert likeliest_of([("a", nothing), ("b", -2.0), ("b", -1.0)]) == {"b": -1.0}


def test_tokens_that_are_as_good_as_impossible_have_short_numbers() -> None:
    assert likeliest_of([("a", -1e308), ("b", -(10**400)), ("c", 0)]) == {"a": -9999, "b": -9999, "c": 0}


@pytest.mark.parametrize(
    "logprobs",
    [
        None,
        {},
        [],
        True,
        {"content": []},
        {"content": [None]},
        {"content": [{"top_logprobs": None}]},
        {"content": [{"top_logprobs": [{"token": None, "logprob": -0.1}]}]},
        {"top_logprobs": [None]},
        {"top_logprobs": [["Yes"]]},
    ],
)
def test_log_probabilities_in_another_form_are_none_and_the_answer_is_not_asked_for_again(
    logprobs: object,
) -> None:
    body = completion(0.0)
    body["choices"][0]["logprobs"] = logprobs
    assert reply_of(body, 1).likeliest is None


def test_one_fault_has_one_advice(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(OWN + "samples = 3\n")
    with pytest.raises(OnibusError, match=r"answer.probability.samples: is not a field; there are: [\w, ]+$"):
        load_spec_file(path)


def test_every_fault_of_a_file_is_told_at_once_with_what_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(
        'tasks = "a"\n'
        + OWN.replace('"user", content = "a"', '"player", content = "{{ caption }}"')
        .replace('unhelpful = "No"', 'unhelpful = "Yes!", unsure = "?"')
        .replace("unsure = 0.1", "unsure = 0.7\nplain = true\ntreshold = 1")
        + "constrained = 3\n"
    )
    with pytest.raises(OnibusError) as refused:
        load_spec_file(path)
    said = str(refused.value)
    for fault in (
        'tasks: should be a list, such as ["…", "…"]',
        "messages 2.role: Input should be 'system', 'user' or 'assistant'",
        "answer.probability.treshold: is not a field; did you mean threshold?",
        "answer.probability.unsure: Input should be less than 0.5",
        "answer.words: unsure and tie are not words here",
        "messages 2.content:",
        "messages: a plain prompt has none",
    ):
        assert fault in said, said


def test_a_spec_can_vary_another(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text('base = "goals"\nname = "own"\ntasks = ["keyroom-*"]\n[sampling]\nmax_tokens = 5\n')
    own, base = load_spec_file(path), load_spec_file("goals")
    assert (own.template, own.goal, own.rules) == (base.template, base.goal, base.rules)
    assert own.sampling == {**base.sampling, "max_tokens": 5}
    assert own.tasks == ("keyroom-*",)
    same = replace(own.for_model("m"), sampling=base.for_model("m").sampling)
    assert ids.spec_id(same) == ids.spec_id(base.for_model("m")), "tasks change no answer"
    path.write_text('base = "goals"\n')
    with pytest.raises(OnibusError, match="name: is missing"):
        load_spec_file(path)
    path.write_text(f'base = "{path}"\nname = "own"\n')
    with pytest.raises(OnibusError, match="lead back to itself"):
        load_spec_file(path)
