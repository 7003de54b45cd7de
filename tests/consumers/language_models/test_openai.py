"""A server of any quality: what is sent, what is waited out, and all of it over the bus."""

import asyncio
import itertools
import random
import threading
from dataclasses import replace
from typing import Any

import pytest

from onibus.consumers.language_models.api_keys import api_key
from onibus.consumers.language_models.base import ModelRefusedError
from onibus.consumers.language_models.circuit_breaker import LONGEST_PAUSE_SECONDS
from onibus.consumers.language_models.openai import OpenAIModel
from onibus.consumers.specs.answer_format import AnswerFormat
from onibus.consumers.specs.spec_file import load_spec
from onibus.consumers.status import system_status
from onibus.infra.errors import OnibusError
from onibus.infra.observability import metrics
from onibus.infra.settings import Settings
from onibus.schemas import codec, ids
from onibus.schemas.records import Annotation, AnnotationSpec, DeadLetter, Label, Origin, Verdict
from tests.consumers.annotating import (
    annotator,
    assert_each_exactly_once,
    publish,
    records,
    wait_for_labels,
)
from tests.consumers.chat_asking import GOOD, SPEC, ask, caption_in, check, model
from tests.consumers.chat_server import ChatServer, Reply, chat_server
from tests.waiting import wait_until


def test_one_question_carries_the_prompt_the_sampling_and_the_key() -> None:
    with chat_server(lambda _: (200, GOOD)) as server:
        (answer,) = ask(model(server.url), "You kill the newt!")
    (request,) = server.requests
    assert request["model"] == "m"
    assert (request["temperature"], request["max_tokens"]) == (0.1, 1024)
    assert caption_in(request) == "You kill the newt!"
    assert server.keys == {"Bearer secret-key"}
    (attempt,) = answer.attempts
    assert (answer.verdict, answer.given_up) == (Verdict.HELPFUL, "")
    assert (attempt.raw_answer, attempt.reason) == (GOOD, "because.")
    assert (attempt.tokens_in, attempt.tokens_out, attempt.tokens_are_estimated) == (11, 3, False)
    assert attempt.latency_us > 0
    assert any(attempt.prompt_hash)


def test_constrained_answers_are_asked_for_by_the_name_that_servers_know() -> None:
    form = AnswerFormat(parser="one-word", constrained=True)
    spec = replace(load_spec("goals", "m"), parser=form.canonical(), sampling={"top_k": "5", "seed": "3"})
    with chat_server(lambda _: (200, "unhelpful")) as server:
        (answer,) = ask(model(server.url, spec), "x")
    assert answer.verdict is Verdict.UNHELPFUL
    assert server.requests[0]["structured_outputs"] == {"choice": ["helpful", "unhelpful", "unsure"]}
    assert (server.requests[0]["top_k"], server.requests[0]["seed"]) == (5, 3)


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503])
def test_trouble_that_may_pass_is_waited_out_with_growing_pauses(status: int) -> None:
    replies = itertools.chain([(status, {"error": "later"})] * 9, itertools.repeat((200, GOOD)))
    pauses: list[float] = []
    with chat_server(lambda _: next(replies)) as server:
        (answer,) = ask(model(server.url, pauses=pauses), "x")
    assert answer.verdict is Verdict.HELPFUL
    assert len(answer.attempts) == 1
    assert len(pauses) == 9
    assert pauses[0] < 0.5 < 3 < pauses[-1] <= LONGEST_PAUSE_SECONDS


@pytest.mark.parametrize("body", [{}, {"choices": []}, {"choices": None}, {"no": "completion"}])
def test_an_answer_of_another_shape_is_waited_out_too(body: dict[str, Any]) -> None:
    replies = itertools.chain([(200, body)] * 3, itertools.repeat((200, GOOD)))
    with chat_server(lambda _: next(replies)) as server:
        (answer,) = ask(model(server.url), "x")
    assert answer.verdict is Verdict.HELPFUL


def test_a_server_that_never_answers_is_given_up_on_after_the_time_out_and_asked_again() -> None:
    hang, first = threading.Event(), threading.Event()

    def reply(_: dict[str, Any]) -> Reply:
        if not first.is_set():
            first.set()
            hang.wait(timeout=30)
        return 200, GOOD

    with chat_server(reply) as server:
        (answer,) = ask(model(server.url, request_seconds=0.3), "x")
        hang.set()
    assert answer.verdict is Verdict.HELPFUL
    assert len(server.requests) == 2


def test_a_server_says_itself_how_long_to_leave_it_alone() -> None:
    pauses: list[float] = []
    replies = iter([429, 429])

    def reply(_: dict[str, Any]) -> Reply:
        return (next(replies, 200), GOOD)

    with chat_server(reply, headers={"Retry-After": "40"}) as server:
        (answer,) = ask(model(server.url, pauses=pauses), "x")
    assert answer.verdict is Verdict.HELPFUL
    assert pauses == [40, 40]


def test_one_answer_in_five_that_is_an_error_gives_up_no_caption() -> None:
    luck = random.Random(5)
    with chat_server(lambda _: (500, {"error": "boom"}) if luck.random() < 0.2 else (200, GOOD)) as server:
        answers = ask(model(server.url), *(f"caption {n}" for n in range(500)))
    assert [a for a in answers if a.given_up] == []


def test_when_nothing_is_answered_all_requests_wait_for_one_probe(caplog: pytest.LogCaptureFixture) -> None:
    """64 captions under way, and the dead server gets a request now and then, not 64 at a time."""
    caplog.set_level("INFO")
    up, open_before = threading.Event(), metrics.MODEL_CIRCUIT_OPEN._value.get()
    open_meanwhile = []

    async def sleep(seconds: float) -> None:
        await asyncio.sleep(0)
        if len(server.requests) > 150:
            open_meanwhile.append(metrics.MODEL_CIRCUIT_OPEN._value.get())
            up.set()

    with chat_server(lambda _: (200, GOOD) if up.is_set() else (503, {"error": "down"})) as server:
        asked = OpenAIModel({SPEC: load_spec("goals", "m")}, server.url, "k", 64, sleep=sleep)
        answers = ask(asked, *(f"caption {n}" for n in range(64)))
        assert set(server.at_a_time[80:150]) == {1}, "more than a probe at a time"
    assert [a.verdict for a in answers] == [Verdict.HELPFUL] * 64
    told = [r.message for r in caplog.records if "in a row" in r.message or "answers again" in r.message]
    assert len(told) == 2
    assert open_meanwhile[0] == open_before + 1, "of all servers of the process"
    assert metrics.MODEL_CIRCUIT_OPEN._value.get() == open_before


def test_where_nobody_listens_the_start_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onibus.consumers.language_models.openai.CHECK_SECONDS", 0.2)
    with chat_server(lambda _: (200, GOOD)) as server:
        url = server.url
    with pytest.raises(ModelRefusedError, match=r"no answer from http://127.0.0.1.*--base-url"):
        check(model(url))


def test_no_more_requests_at_a_time_than_allowed_and_no_fewer() -> None:
    crowd = threading.Barrier(4)

    def reply(_: dict[str, Any]) -> Reply:
        crowd.wait(timeout=20)  # goes on only if four are here at the same time
        return 200, GOOD

    with chat_server(reply) as server:
        answers = ask(model(server.url, concurrency=4), *(f"caption {n}" for n in range(20)))
    assert [a.verdict for a in answers] == [Verdict.HELPFUL] * 20
    assert server.most_at_a_time == 4


def test_the_key_comes_from_the_environment_or_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("keys") / "key"
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert api_key() == "none"
    monkeypatch.setenv("ONIBUS_OPENAI_API_KEY_FILE", str(path))
    with pytest.raises(OnibusError, match="cannot read the API key"):
        api_key()
    path.write_text("from-file\n")
    assert api_key() == "from-file"
    monkeypatch.setenv("OPENAI_API_KEY", "from-environment")
    assert api_key() == "from-environment"


@pytest.mark.parametrize("url", ["no address", "127.0.0.1:8000", "ftp://x/v1"])
def test_an_address_that_is_none_is_one_clear_line(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onibus.consumers.language_models.openai.CHECK_SECONDS", 0.2)
    with pytest.raises((OnibusError, ModelRefusedError), match="--base-url"):
        check(model(url))


# --- over the bus -----------------------------------------------------------------------------------


def on_the_bus(server: ChatServer) -> tuple[dict[bytes, AnnotationSpec], OpenAIModel]:
    spec = load_spec("goals", "m")
    specs = {ids.spec_id(spec): spec}
    return specs, OpenAIModel(specs, server.url, "k", 8)


def test_over_the_bus_with_answers_good_unreadable_and_refused(settings: Settings) -> None:
    def reply(request: dict[str, Any]) -> Reply:
        caption = caption_in(request)
        if "garbage" in caption:
            return 200, "no idea what you mean"
        if "too long" in caption:
            return 400, {"error": {"message": "prompt too long"}}
        if "smile" in caption:
            return 200, "analysis: half a smile \ud83d.\nverdict: unhelpful"
        return 200, GOOD if "kill" in caption else "analysis: -\nverdict: unhelpful"

    texts = [f"You kill {n} newts." for n in range(30)] + [
        "You see garbage.",
        "too long",
        "It's a wall.",
        "A smile.",
    ]
    publish(settings, texts)
    with chat_server(reply) as server:
        specs, asked = on_the_bus(server)
        with annotator(settings, specs=specs, model=asked):
            wait_for_labels(settings, len(texts))
    (spec_id,) = specs
    labels = {r.key[8:]: codec.decode(Label, r.value).verdict for r in records(settings, "labels")}
    assert labels[ids.caption_id("You see garbage.")] is Verdict.UNSURE
    assert labels[ids.caption_id("too long")] is Verdict.UNSURE
    assert labels[ids.caption_id("It's a wall.")] is Verdict.UNHELPFUL
    assert list(labels.values()).count(Verdict.HELPFUL) == 30
    letters = [codec.decode(DeadLetter, r.value) for r in records(settings, "dead-letters")]
    assert {(x.original_key, x.attempts) for x in letters} == {
        (ids.caption_id("You see garbage."), 3),
        (ids.caption_id("too long"), 1),
    }
    assert {x.spec_id for x in letters} == {spec_id}
    found = [codec.decode(Annotation, r.value) for r in records(settings, "annotations")]
    assert len(found) == len(texts) + 2  # every answer, the unreadable ones too
    garbage = [a for a in found if a.texts == ("You see garbage.",)]
    assert [(a.attempt, a.raw_answer) for a in garbage] == [(n, "no idea what you mean") for n in (1, 2, 3)]
    assert {a.origin for a in found} == {Origin.LLM}
    status = system_status(settings)
    assert status.specs[0].unreadable == pytest.approx(4 / len(found)), "and the one that was refused"
    assert sum(cost.unreadable for cost in status.costs) == 4
    assert sum(a.tokens_in for a in found) == 11 * (len(texts) + 1)


def test_over_the_bus_a_server_that_is_down_for_a_while_costs_nothing(settings: Settings) -> None:
    up = threading.Event()
    up.set()
    texts = [f"You kill {n} newts." for n in range(40)]
    with chat_server(lambda _: (200, GOOD) if up.is_set() else (503, {"error": "down"})) as server:
        specs, asked = on_the_bus(server)
        with annotator(settings, specs=specs, model=asked) as one:
            wait_until(lambda: len(one.partitions) == settings.partitions, 30, "partitions")
            up.clear()
            publish(settings, texts)
            wait_until(lambda: len(server.requests) > 12, 30, "some tries")
            assert not records(settings, "labels")
            up.set()
            wait_for_labels(settings, len(texts))
    assert_each_exactly_once(settings, specs, texts)
    assert not records(settings, "dead-letters")


def test_over_the_bus_a_key_that_is_withdrawn_ends_the_annotator_with_one_line(settings: Settings) -> None:
    valid = threading.Event()
    valid.set()
    with chat_server(lambda _: (200, GOOD) if valid.is_set() else (401, {"error": "key"})) as server:
        specs, asked = on_the_bus(server)
        with annotator(settings, specs=specs, model=asked) as one:
            wait_until(lambda: one.partitions, 30, "partitions")
            valid.clear()
            publish(settings, ["You kill the newt!"])
            error = one.died(timeout=30)
    assert isinstance(error, OnibusError)
    assert "OPENAI_API_KEY" in str(error)
    assert not records(settings, "labels")
