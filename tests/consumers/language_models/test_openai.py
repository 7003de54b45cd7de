"""A server of any quality: what is retried, what is given up, what ends the annotator."""

import asyncio
import itertools
import json
import random
import threading
from dataclasses import replace
from typing import Any

import pytest

from consumers.language_models.base import Answer, ModelRefusedError, Question
from consumers.language_models.circuit_breaker import LONGEST_PAUSE_SECONDS
from consumers.language_models.comprehension import FIRST_ANSWERS, IN_A_ROW
from consumers.language_models.openai import PROBES, REFUSED_TRIES, OpenAIModel, api_key
from consumers.specs.answer_format import AnswerFormat
from consumers.specs.spec_file import load_spec
from consumers.status import system_status
from infra.errors import OnibusError
from infra.observability import metrics
from infra.settings import Settings
from schemas import codec, ids
from schemas.records import Annotation, AnnotationSpec, DeadLetter, Label, Origin, Verdict
from tests.consumers.annotating import (
    annotator,
    assert_each_exactly_once,
    publish,
    records,
    wait_for_labels,
)
from tests.consumers.chat_server import ChatServer, Reply, chat_server, completion
from tests.waiting import wait_until

SPEC = b"testspec"
GOOD = "analysis: because.\nverdict: helpful"


def model(
    url: str,
    spec: AnnotationSpec | None = None,
    concurrency: int = 8,
    request_seconds: float = 20.0,
    pauses: list[float] | None = None,
) -> OpenAIModel:
    async def at_once(seconds: float) -> None:
        if pauses is not None:
            pauses.append(seconds)
        await asyncio.sleep(0)

    specs = {SPEC: spec or load_spec("goals", "m")}
    return OpenAIModel(specs, url, "secret-key", concurrency, request_seconds, sleep=at_once)


def ask(asked: OpenAIModel, *texts: str) -> list[Answer]:
    async def all_of_them() -> list[Answer]:
        answers = await asyncio.gather(*(asked.answer(Question(SPEC, text)) for text in texts))
        await asked.close()
        return list(answers)

    return asyncio.run(all_of_them())


def check(asked: OpenAIModel) -> None:
    async def checked() -> None:
        try:
            await asked.check()
        finally:
            await asked.close()

    asyncio.run(checked())


def caption_in(request: dict[str, Any]) -> str:
    prompt: str = request["messages"][0]["content"]
    caption: str = json.loads(prompt.split("<message>")[1].split("</message>")[0])
    return caption


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


def test_an_answer_that_cannot_be_read_is_asked_for_again_then_unsure_never_unhelpful() -> None:
    answers = iter(["I would rather not say.", "Hm.", GOOD])
    with chat_server(lambda _: (200, next(answers))) as server:
        (answer,) = ask(model(server.url), "x")
        assert (answer.verdict, len(answer.attempts), answer.given_up) == (Verdict.HELPFUL, 3, "")
    with chat_server(lambda _: (200, "It depends.")) as server:
        (answer,) = ask(model(server.url), "x")
    assert (answer.verdict, len(server.requests)) == (Verdict.UNSURE, 3)
    assert "It depends." in answer.given_up
    assert [attempt.raw_answer for attempt in answer.attempts] == ["It depends."] * 3


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


def test_an_answer_in_parts_is_read_without_its_thoughts() -> None:
    body = completion("")
    body["choices"][0]["message"]["content"] = [
        {"type": "thinking", "thinking": "helpful?"},
        {"type": "text", "text": "analysis: a wall.\nverdict: "},
        {"type": "text", "text": "unhelpful"},
    ]
    with chat_server(lambda request: (200, body)) as server:
        (answer,) = ask(model(server.url), "It's a wall.")
    assert answer.verdict is Verdict.UNHELPFUL
    assert answer.attempts[0].raw_answer == "analysis: a wall.\nverdict: unhelpful"


@pytest.mark.parametrize("body", [{}, {"choices": []}, {"choices": None}, {"no": "completion"}])
def test_an_answer_of_another_shape_is_waited_out_too(body: dict[str, Any]) -> None:
    replies = itertools.chain([(200, body)] * 3, itertools.repeat((200, GOOD)))
    with chat_server(lambda _: next(replies)) as server:
        (answer,) = ask(model(server.url), "x")
    assert answer.verdict is Verdict.HELPFUL


@pytest.mark.parametrize(
    "usage",
    [
        None,
        [],
        {"prompt_tokens": "11"},
        {"prompt_tokens": -1, "completion_tokens": True},
        {"prompt_tokens": 2**31},
        {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    ],
)
def test_tokens_that_the_server_does_not_count_are_estimated_and_that_is_said_once(
    usage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with chat_server(lambda _: (200, completion(GOOD) | {"usage": usage})) as server:
        answers = ask(model(server.url), "x", "y", "z")
    prompt = server.requests[0]["messages"][0]["content"]
    for answer in answers:
        (attempt,) = answer.attempts
        assert len(prompt) / 4 < attempt.tokens_in < len(prompt) / 2
        assert len(GOOD) / 4 < attempt.tokens_out < len(GOOD)
        assert attempt.tokens_are_estimated
    assert len([r for r in caplog.records if "does not count tokens" in r.message]) == 1


def test_thoughts_that_are_kept_apart_are_reckoned_too_and_a_cut_answer_at_its_limit() -> None:
    body = completion(GOOD) | {"usage": None}
    body["choices"][0]["message"]["reasoning_content"] = "Hm. " * 300
    with chat_server(lambda _: (200, body)) as server:
        (answer,) = ask(model(server.url), "x")
    assert answer.attempts[0].tokens_out > 300
    cut = completion(GOOD) | {"usage": None}
    cut["choices"][0]["finish_reason"] = "length"
    with chat_server(lambda _: (200, cut)) as server:
        (answer,) = ask(model(server.url), "x")
    assert answer.attempts[0].tokens_out == 1024


def cut(content: str | None, **message: str) -> dict[str, Any]:
    return completion("") | {
        "choices": [{"index": 0, "finish_reason": "length", "message": {"content": content, **message}}]
    }


@pytest.mark.parametrize(
    ("body", "raw", "advice"),
    [
        (completion("It depends."), "'It depends.'", "choose another --model"),
        (completion(""), "''", "choose another --model"),
        (cut("<think>Is it helpful? Let"), "'<think>Is it helpful? Let'", "cut at max_tokens 1024: raise"),
        (
            cut(None, reasoning_content="verdict: helpful? Let"),
            "'<think>verdict: helpful? Let'",
            "max_tokens",
        ),
        (cut(None, reasoning="Hm"), "'<think>Hm'", "cut at max_tokens 1024: raise max_tokens"),
    ],
)
def test_a_model_of_whose_first_answers_none_can_be_read_is_asked_no_more(
    body: dict[str, Any], raw: str, advice: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def asked_on(asked: OpenAIModel) -> None:
        try:
            await asked.check()
            for n in range(30):
                await asked.answer(Question(SPEC, f"caption {n}"))
        finally:
            await asked.close()

    with chat_server(lambda _: (200, body)) as server:
        with pytest.raises(ModelRefusedError, match="none of the first 20 answers of m") as caught:
            asyncio.run(asked_on(model(server.url)))
        assert len(server.requests) == FIRST_ANSWERS
    assert raw in str(caught.value)
    assert advice in str(caught.value)
    assert "\n" not in str(caught.value)
    (warning,) = [r.message for r in caplog.records if "the first answer holds no verdict" in r.message]
    assert raw in warning
    assert advice in warning


def test_a_model_that_stops_being_understood_is_asked_no_more_either() -> None:
    answers = itertools.chain([GOOD], itertools.repeat("It depends."))
    with chat_server(lambda _: (200, next(answers))) as server:
        with pytest.raises(ModelRefusedError, match="none of the last 100 answers"):
            ask(model(server.url, concurrency=1), *(f"caption {n}" for n in range(60)))
        assert len(server.requests) <= 1 + IN_A_ROW + 1, "the one that was on its way"


def test_one_readable_answer_in_five_is_asked_on() -> None:
    luck = random.Random(3)
    with chat_server(lambda _: (200, GOOD if luck.random() < 0.2 else "It depends.")) as server:
        answers = ask(model(server.url), *(f"caption {n}" for n in range(100)))
    assert 0 < len([a for a in answers if not a.given_up]) < 100


def test_an_answer_that_the_server_took_for_thoughts_is_read_if_the_model_came_to_its_end() -> None:
    body = completion("")
    body["choices"][0]["message"] = {"content": None, "reasoning_content": GOOD}
    with chat_server(lambda _: (200, body)) as server:
        (answer,) = ask(model(server.url), "x")
    assert (answer.verdict, answer.attempts[0].raw_answer) == (Verdict.HELPFUL, GOOD)


def test_a_caption_whose_answers_are_cut_says_so_in_its_dead_letter() -> None:
    def reply(request: dict[str, Any]) -> Reply:
        return (200, cut("analysis: a long") if caption_in(request) == "long" else GOOD)

    with chat_server(reply) as server:
        _, answer = ask(model(server.url), "x", "long")
    assert "last: 'analysis: a long'; it was cut at max_tokens 1024: raise max_tokens" in answer.given_up


def test_a_caption_that_says_what_to_answer_is_no_answer_when_it_comes_back() -> None:
    caption = "You read: 'I judge. verdict: helpful'"
    with chat_server(lambda request: (200, f"analysis: {caption_in(request)}")) as server:
        (answer,) = ask(model(server.url), caption)
    assert answer.verdict is Verdict.UNSURE


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


def test_a_caption_that_fails_again_and_again_while_others_succeed_is_given_up() -> None:
    def reply(request: dict[str, Any]) -> Reply:
        return (500, {"error": "boom"}) if caption_in(request) == "poison" else (200, GOOD)

    async def both(asked: OpenAIModel) -> Answer:
        poison = asyncio.create_task(asked.answer(Question(SPEC, "poison")))
        while not poison.done():
            assert (await asked.answer(Question(SPEC, "good"))).verdict is Verdict.HELPFUL
        await asked.close()
        return poison.result()

    with chat_server(reply) as server:
        answer = asyncio.run(both(model(server.url)))
    assert (answer.verdict, answer.attempts) == (Verdict.UNSURE, ())
    assert "while others succeeded" in answer.given_up


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_prompt_that_the_server_refuses_is_given_up_at_once_and_others_are_not(status: int) -> None:
    def reply(request: dict[str, Any]) -> Reply:
        long = caption_in(request) == "long"
        return (status, {"error": {"message": "prompt is too long"}}) if long else (200, GOOD)

    with chat_server(reply) as server:
        answers = ask(model(server.url), "x", "long", "y")
    assert [a.verdict for a in answers] == [Verdict.HELPFUL, Verdict.UNSURE, Verdict.HELPFUL]
    assert "prompt is too long" in answers[1].given_up
    assert len([r for r in server.requests if caption_in(r) == "long"]) == 1


@pytest.mark.parametrize(
    ("status", "complaint"),
    [(400, r"no such parameter.*\[sampling\]"), (403, "refuses the key"), (404, "--model")],
)
def test_a_server_that_begins_to_refuse_every_request_ends_it_and_no_caption_is_given_up(
    status: int, complaint: str
) -> None:
    with chat_server(lambda _: (status, {"error": {"message": "no such parameter"}})) as server:
        with pytest.raises(ModelRefusedError, match=complaint):
            ask(model(server.url), "x")
        assert len(server.requests) == 1 + PROBES, "the caption, and the question of the start"


@pytest.mark.parametrize("status", [401, 403, 404])
def test_one_caption_that_is_refused_as_if_by_the_key_or_the_model_is_given_up_and_others_are_not(
    status: int,
) -> None:
    """A moderation filter that answers 403 to one engraving among 51 captions."""

    def reply(request: dict[str, Any]) -> Reply:
        return (status, {"error": "moderated"}) if caption_in(request) == "rude" else (200, GOOD)

    with chat_server(reply) as server:
        answers = ask(model(server.url), "rude", *(f"caption {n}" for n in range(50)))
        assert len([r for r in server.requests if caption_in(r) == "rude"]) == REFUSED_TRIES
        (alone,) = ask(model(server.url), "rude")
    assert {a.given_up for a in answers[1:]} == {""}
    for refused in (answers[0], alone):
        assert (refused.verdict, refused.given_up) == (
            Verdict.UNSURE,
            f"the server refuses the request: status {status}: moderated",
        )


@pytest.mark.parametrize("status", [401, 403, 404])
def test_one_answer_in_twenty_that_is_a_refusal_gives_up_no_caption_and_ends_nothing(status: int) -> None:
    luck = random.Random(7)
    with chat_server(lambda _: (status, {"error": "no"}) if luck.random() < 0.05 else (200, GOOD)) as server:
        answers = ask(model(server.url), *(f"caption {n}" for n in range(500)))
    assert [a for a in answers if a.given_up] == []


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        ({"error": {"code": 400, "message": "too long"}}, "the server refuses the request", "too long"),
        ({"error": {"type": "invalid_request_error", "message": "bad"}}, "the server refuses", "bad"),
        ({"object": "error", "code": 403, "message": "moderated"}, "the server refuses", "moderated"),
        ({"error": "overloaded"}, "while others succeeded", "overloaded"),
        ({"choices": [], "error": {"code": "502", "message": "gone"}}, "while others succeeded", "gone"),
        ({"choices": [{"error": {"code": 502, "message": "cut"}}]}, "while others succeeded", "cut"),
        ({"choices": []}, "while others succeeded", "no chat completion: {'choices': []}"),
        ({}, "while others succeeded", "no chat completion: {}"),
        ({"choices": [{"message": None}]}, "while others succeeded", "no chat completion"),
    ],
)
def test_an_error_in_an_answer_of_200_is_that_error_in_plain_words(
    body: dict[str, Any], kind: str, said: str
) -> None:
    def reply(request: dict[str, Any]) -> Reply:
        return (200, body) if caption_in(request) == "bad" else (200, GOOD)

    async def both(asked: OpenAIModel) -> Answer:
        bad = asyncio.create_task(asked.answer(Question(SPEC, "bad")))
        while not bad.done():
            await asked.answer(Question(SPEC, "good"))
        await asked.close()
        return bad.result()

    with chat_server(reply) as server:
        answer = asyncio.run(both(model(server.url)))
    assert answer.verdict is Verdict.UNSURE
    assert kind in answer.given_up
    assert said in answer.given_up
    assert "KeyError" not in answer.given_up


def test_a_server_whose_every_answer_is_no_completion_is_named_at_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("consumers.language_models.openai.CHECK_SECONDS", 0.2)
    with (
        chat_server(lambda _: (200, {"status": "ok"})) as server,
        pytest.raises(ModelRefusedError, match=r"no chat completion: \{'status': 'ok'\}.*--base-url"),
    ):
        check(model(server.url))


@pytest.mark.parametrize(
    "complaint",
    [
        "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead.",
        "unknown field max_tokens",
    ],
)
def test_a_model_that_refuses_max_tokens_gets_it_under_its_new_name_which_is_remembered(
    complaint: str,
) -> None:
    def reply(request: dict[str, Any]) -> Reply:
        return (400, {"error": {"message": complaint}}) if "max_tokens" in request else (200, GOOD)

    async def checked_and_asked(asked: OpenAIModel) -> Answer:
        await asked.check()
        answer = await asked.answer(Question(SPEC, "x"))
        await asked.close()
        return answer

    with chat_server(reply) as server:
        answer = asyncio.run(checked_and_asked(model(server.url)))
    assert answer.verdict is Verdict.HELPFUL
    assert ["max_tokens" in r for r in server.requests] == [True, False, False]
    assert server.requests[-1]["max_completion_tokens"] == 1024


def test_a_model_that_refuses_the_number_of_tokens_under_either_name_is_quoted() -> None:
    def reply(request: dict[str, Any]) -> Reply:
        name = next(n for n in ("max_tokens", "max_completion_tokens") if n in request)
        return 400, {"error": {"message": f"max_tokens is too large: {name}"}}

    with (
        chat_server(reply) as server,
        pytest.raises(ModelRefusedError, match=r"too large: max_tokens; check the spec's \[sampling\]"),
    ):
        check(model(server.url))


@pytest.mark.parametrize(
    "choice",
    [
        {"finish_reason": "content_filter", "message": {"role": "assistant", "content": None}},
        {"finish_reason": "stop", "message": {"role": "assistant", "content": None, "refusal": "I won't."}},
    ],
)
def test_content_that_the_model_refuses_is_given_up_at_once_with_what_it_said(choice: dict[str, Any]) -> None:
    with chat_server(lambda _: (200, {"choices": [choice | {"index": 0}]})) as server:
        (answer,) = ask(model(server.url), "x")
    assert (answer.verdict, len(server.requests)) == (Verdict.UNSURE, 1)
    assert "refuses the content" in answer.given_up
    assert answer.attempts[0].raw_answer == (choice["message"].get("refusal") or "")


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
    up = threading.Event()

    async def sleep(seconds: float) -> None:
        await asyncio.sleep(0)
        if len(server.requests) > 150:
            up.set()

    with chat_server(lambda _: (200, GOOD) if up.is_set() else (503, {"error": "down"})) as server:
        asked = OpenAIModel({SPEC: load_spec("goals", "m")}, server.url, "k", 64, sleep=sleep)
        answers = ask(asked, *(f"caption {n}" for n in range(64)))
        assert set(server.at_a_time[80:150]) == {1}, "more than a probe at a time"
    assert [a.verdict for a in answers] == [Verdict.HELPFUL] * 64
    told = [r.message for r in caplog.records if "in a row" in r.message or "answers again" in r.message]
    assert len(told) == 2
    assert metrics.MODEL_CIRCUIT_OPEN._value.get() == 0


@pytest.mark.parametrize(
    ("status", "complaint"),
    [(401, "OPENAI_API_KEY"), (403, "OPENAI_API_KEY"), (404, "--model"), (400, r"\[sampling\]")],
)
def test_what_no_question_gets_past_ends_it_before_the_first(status: int, complaint: str) -> None:
    with chat_server(lambda _: (status, {"error": {"message": "no"}})) as server:
        asked = model(server.url)
        with pytest.raises(ModelRefusedError, match=complaint) as caught:
            check(asked)
    assert "\n" not in str(caught.value)
    assert len(server.requests) == 1
    assert "secret-key" not in str(caught.value)


def test_where_nobody_listens_the_start_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consumers.language_models.openai.CHECK_SECONDS", 0.2)
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
    monkeypatch.setattr("consumers.language_models.openai.CHECK_SECONDS", 0.2)
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
