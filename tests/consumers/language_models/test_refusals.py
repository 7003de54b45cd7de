"""What a server refuses: one request, which is its caption's, or all of them, which ends the annotator."""

import asyncio
import random
from typing import Any

import pytest

from onibus.consumers.language_models.base import Answer, ModelRefusedError, Question
from onibus.consumers.language_models.openai import OpenAIModel
from onibus.consumers.language_models.refusals import FIRST_PROBES, PROBES, REFUSED_TRIES
from onibus.schemas.records import Verdict
from tests.consumers.chat_asking import GOOD, SPEC, ask, caption_in, check, model
from tests.consumers.chat_server import Reply, chat_server


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


def test_captions_that_always_fail_hold_up_no_others_and_are_given_up() -> None:
    """So many that nothing but failures is under way: their own repetitions say nothing about the server."""

    def reply(request: dict[str, Any]) -> Reply:
        return (500, {"error": "boom"}) if caption_in(request).startswith("poison") else (200, GOOD)

    async def poison_first(asked: OpenAIModel) -> tuple[list[Answer], Answer]:
        poison = [asyncio.create_task(asked.answer(Question(SPEC, f"poison {n}"))) for n in range(12)]
        while not asked._retries.circuit.is_open:
            await asyncio.sleep(0.01)
        good = await asked.answer(Question(SPEC, "good"))
        answers = await asyncio.gather(*poison)
        await asked.close()
        return answers, good

    with chat_server(reply) as server:
        answers, good = asyncio.run(poison_first(model(server.url, concurrency=64)))
    assert good.verdict is Verdict.HELPFUL
    assert {a.verdict for a in answers} == {Verdict.UNSURE}
    assert all("while others succeeded: status 500: boom" in a.given_up for a in answers)


def test_an_answer_that_a_filter_took_away_is_a_refusal_of_that_caption() -> None:
    def reply(request: dict[str, Any]) -> Reply:
        taken = {"choices": [{"index": 0, "finish_reason": "content_filter", "message": None}]}
        return (200, taken) if caption_in(request) == "rude" else (200, GOOD)

    with chat_server(reply) as server:
        answers = ask(model(server.url), "x", "rude")
        assert len([r for r in server.requests if caption_in(r) == "rude"]) == 1
    assert [a.verdict for a in answers] == [Verdict.HELPFUL, Verdict.UNSURE]
    assert "the model refuses the content" in answers[1].given_up


@pytest.mark.parametrize("status", [400, 405, 413, 415, 422, 451])
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
        ({"choices": []}, "while others succeeded", "not a completion: {'choices': []}"),
        ({}, "while others succeeded", "not a completion: {}"),
        ({"choices": [{"message": None}]}, "while others succeeded", "not a completion"),
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


def test_a_server_whose_every_answer_is_no_completion_is_named_at_the_start() -> None:
    with (
        chat_server(lambda _: (200, {"status": "ok"})) as server,
        pytest.raises(ModelRefusedError, match=r"not a completion: \{'status': 'ok'\}.*--base-url"),
    ):
        check(model(server.url))
    assert len(server.requests) == 3, "each may be paid for"


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


def test_a_single_404_of_a_proxy_does_not_end_the_start() -> None:
    replies = iter([(404, {"error": {"message": "no such route"}}), (200, GOOD)])
    with chat_server(lambda _: next(replies)) as server:
        check(model(server.url))
    assert len(server.requests) == 2


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
    assert len(server.requests) == FIRST_PROBES
    assert "secret-key" not in str(caught.value)
