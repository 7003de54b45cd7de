"""Answers that are paid for are written, whatever ends the annotator."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from onibus.consumers.language_models.base import Question
from onibus.consumers.language_models.openai import OpenAIModel
from onibus.consumers.language_models.panel import PanelModel
from onibus.consumers.specs.spec_file import load_spec
from onibus.infra.errors import OnibusError
from onibus.infra.settings import Settings
from onibus.schemas import codec, ids
from onibus.schemas.records import Annotation, AnnotationSpec
from tests.consumers.annotating import annotator, label_keys, publish, records, wait_for_labels
from tests.consumers.annotator.panels import GOLD, SPEC, about_gold, panel_of, says, servers
from tests.consumers.chat_server import ChatServer, Reply, chat_server
from tests.waiting import wait_until

ONE, OTHER = load_spec("goals", "m"), load_spec("combat", "m")
SPECS: dict[bytes, AnnotationSpec] = {ids.spec_id(spec): spec for spec in (ONE, OTHER)}
JUST_ONE = {ids.spec_id(ONE): ONE}
TEXTS = [f"You kill {number} newts." for number in range(10)]


@pytest.fixture
def held() -> Iterator[threading.Event]:
    """Holds back answers of a server until it is set, at the latest when the test is over."""
    event = threading.Event()
    yield event
    event.set()


def about_one(body: dict[str, Any]) -> bool:
    return ONE.goal[:30] in body["messages"][-1]["content"]


def test_answers_under_one_spec_are_written_where_those_under_the_other_never_come(
    settings: Settings,
    held: threading.Event,
) -> None:
    good = (200, "verdict: helpful")

    def reply(body: dict[str, Any]) -> Reply:
        if not about_one(body):
            held.wait(60)
        return good

    with (
        chat_server(reply) as server,
        annotator(settings, specs=SPECS, model=OpenAIModel(SPECS, server.url, "k", 32)) as running,
    ):
        wait_until(lambda: running.partitions, 30, "it to be ready")
        publish(settings, TEXTS)
        wait_until(lambda: len(server.requests) > 2 * len(TEXTS), 30, "every question")
        running.stop()
    assert set(label_keys(settings)) == keys_of(ONE)
    with chat_server(lambda _: good) as server:
        with annotator(settings, specs=SPECS, model=OpenAIModel(SPECS, server.url, "k", 32)):
            wait_for_labels(settings, 2 * len(TEXTS))
        assert not any(map(about_one, server.requests[1:])), "none is asked twice"
    assert set(label_keys(settings)) == keys_of(ONE) | keys_of(OTHER)
    assert set(label_keys(settings).values()) == {1}


def test_what_the_other_judges_of_a_panel_said_is_written_when_one_is_refused(settings: Settings) -> None:
    with servers(says(about_gold), says(about_gold), lambda _: (200, "mmh")) as running:
        specs, model = panel_of(running)
        with annotator(settings, specs=specs, model=model, judges=3) as process:
            wait_until(lambda: process.partitions, 30, "it to be ready")
            publish(settings, GOLD)
            error = process.died(60)
    assert isinstance(error, OnibusError)
    assert "answers of model-2" in str(error)
    written = [codec.decode(Annotation, record.value) for record in records(settings, "annotations")]
    assert {(one.model, one.texts[0]) for one in written} >= {
        (f"model-{number}", text) for number in range(2) for text in GOLD
    }
    assert len(label_keys(settings)) == len(GOLD), "two of three agree, so the third could change nothing"


@pytest.mark.parametrize("ends", ["stopped", "refused"])
def test_what_two_judges_agree_on_is_written_while_the_third_is_slow(
    settings: Settings, held: threading.Event, ends: str
) -> None:
    is_late = threading.Event()

    def slow(_: dict[str, Any]) -> Reply:
        if not is_late.is_set():  # the question of the start
            is_late.set()
            return 200, "x"
        if ends == "refused":
            return 401, "revoked"
        held.wait(60)
        return 200, "x"

    with servers(says(about_gold), says(about_gold), slow) as running:
        specs, model = panel_of(running)
        with annotator(settings, specs=specs, model=model, judges=3) as process:
            wait_until(lambda: process.partitions, 30, "it to be ready")
            publish(settings, GOLD)
            if ends == "refused":
                assert "refuses the key" in str(process.died(60))
            else:
                wait_until(lambda: all(len(s.requests) > len(GOLD) for s in running), 30, "all")
                process.stop()
    assert len(label_keys(settings)) == len(GOLD)
    written = [codec.decode(Annotation, record.value) for record in records(settings, "annotations")]
    assert Counter(one.model for one in written) == {"model-0": len(GOLD), "model-1": len(GOLD)}


def test_what_was_not_sent_yet_is_taken_back_at_a_stop_and_what_was_sent_is_written(
    settings: Settings,
    held: threading.Event,
) -> None:
    def reply(_: dict[str, Any]) -> Reply:
        if len(server.requests) > 1:  # not the question of the start
            held.wait(60)
        return 200, "verdict: helpful"

    with chat_server(reply) as server:
        with annotator(settings, specs=JUST_ONE, model=OpenAIModel(JUST_ONE, server.url, "k", 2)) as running:
            wait_until(lambda: running.partitions, 30, "it to be ready")
            publish(settings, TEXTS)
            asking = running.process._asking
            wait_until(lambda: asking.missing == len(TEXTS), 30, "all to be under way")
            wait_until(lambda: len(server.requests) == 3, 30, "two to be sent")
            running.stopping.set()
            wait_until(lambda: asking.missing == 2, 30, "the others to be taken back")
            held.set()
            running.stop()
        assert len(server.requests) == 3
        assert len(label_keys(settings)) == 2
        with annotator(settings, specs=JUST_ONE, model=OpenAIModel(JUST_ONE, server.url, "k", 2)):
            wait_for_labels(settings, len(TEXTS))
        assert len(server.requests) == 2 + len(TEXTS), "none is asked twice"


def test_what_was_not_sent_yet_of_partitions_that_go_to_another_is_asked_by_that_one_alone(
    settings: Settings,
    held: threading.Event,
) -> None:
    texts = [f"You kill {number} newts." for number in range(60)]

    def reply(_: dict[str, Any]) -> Reply:
        if len(first.requests) > 1:
            held.wait(60)
        return 200, "verdict: helpful"

    with chat_server(reply) as first, chat_server(lambda _: (200, "verdict: helpful")) as second:
        one, other = (OpenAIModel(JUST_ONE, server.url, "k", 2) for server in (first, second))
        with annotator(settings, "a1", specs=JUST_ONE, model=one) as running:
            wait_until(lambda: running.partitions, 30, "it to be ready")
            publish(settings, texts)
            wait_until(lambda: running.process._asking.missing == len(texts), 30, "all to be under way")
            with annotator(settings, "a2", specs=JUST_ONE, model=other) as joined:
                wait_until(lambda: len(joined.partitions) == 2, 60, "the other's partitions")
                held.set()
                wait_for_labels(settings, len(texts))
    assert len(label_keys(settings)) == len(texts)
    assert len(first.requests) + len(second.requests) <= 2 + len(texts) + 2, (
        "only what was sent is asked twice"
    )


def test_captions_that_some_judges_of_a_panel_have_answered_are_finished_at_a_stop(
    settings: Settings, held: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    def slow(_: dict[str, Any]) -> Reply:
        if len(running[2].requests) > 1:
            held.wait(60)
        return says(about_gold)({"messages": GOLD})

    with servers(says(about_gold), says(lambda _: False), slow) as running:
        specs, model = panel_with_a_narrow_judge(running)
        with annotator(settings, specs=specs, model=model, judges=3) as process:
            wait_until(lambda: process.partitions, 30, "it to be ready")
            publish(settings, GOLD)
            wait_until(lambda: all(len(s.requests) > len(GOLD) for s in running[:2]), 30, "two judges")
            wait_until(lambda: len(model._paid) == len(GOLD), 30, "their answers")
            with caplog.at_level(logging.INFO):
                process.stopping.set()
                line = f"waiting up to 5 s for answers to {len(GOLD)} questions"
                wait_until(lambda: line in caplog.text, 30, "it to say what it waits for")
            held.set()
            process.stop()
    assert len(label_keys(settings)) == len(GOLD)


def test_judges_not_asked_yet_are_not_asked_about_captions_that_go_to_another(
    settings: Settings, held: threading.Event
) -> None:
    def slow(body: dict[str, Any]) -> Reply:
        if any(text in str(body["messages"]) for text in GOLD):  # not the question of a start
            held.wait(60)
        return says(about_gold)({"messages": GOLD})

    with servers(says(about_gold), says(lambda _: False), slow) as running:
        (specs, one), (_, other) = (panel_with_a_narrow_judge(running) for _ in range(2))
        with annotator(settings, "a1", specs=specs, model=one, judges=3) as process:
            wait_until(lambda: process.partitions, 30, "it to be ready")
            publish(settings, GOLD)
            wait_until(lambda: len(one._paid) == len(GOLD), 30, "two judges to have answered")
            with annotator(settings, "a2", specs=specs, model=other, judges=3) as joined:
                wait_until(lambda: len(joined.partitions) == 2, 60, "the other's partitions")
                held.set()
                wait_for_labels(settings, len(GOLD))
        assert len(running[2].requests) <= 2 + len(GOLD) + 1, "but for the one that was on its way"


def panel_with_a_narrow_judge(running: list[ChatServer]) -> tuple[dict[bytes, AnnotationSpec], PanelModel]:
    """Three judges, of whom the last takes one request at a time."""
    specs, model = panel_of(running)
    (spec_id,) = specs
    third = OpenAIModel({spec_id: load_spec(SPEC, "model-2")}, running[2].url, "k", 1)
    return specs, PanelModel([*model._seats[:2], replace(model._seats[2], model=third)])


def test_a_request_that_fails_during_a_stop_is_not_sent_again(
    settings: Settings, held: threading.Event
) -> None:
    def reply(_: dict[str, Any]) -> Reply:
        if len(server.requests) == 1:
            return 200, "verdict: helpful"
        held.wait(60)
        return 503, "going down, too"

    with chat_server(reply) as server:
        with annotator(settings, specs=JUST_ONE, model=OpenAIModel(JUST_ONE, server.url, "k", 32)) as running:
            wait_until(lambda: running.partitions, 30, "it to be ready")
            publish(settings, TEXTS)
            wait_until(lambda: len(server.requests) == 1 + len(TEXTS), 30, "all to be sent")
            running.stopping.set()
            held.set()
            running.stop()
        assert len(server.requests) <= 1 + 2 * len(TEXTS), "a request that failed just before may be"
        assert running.process._asking.missing == 0, "nothing is waited for in vain"


def test_answers_under_one_spec_are_written_before_their_partition_goes_to_another(
    settings: Settings,
    held: threading.Event,
) -> None:
    def reply(body: dict[str, Any]) -> Reply:
        if not about_one(body):
            held.wait(60)
        return 200, "verdict: helpful"

    with chat_server(reply) as server:
        one, other = (OpenAIModel(SPECS, server.url, "k", 32) for _ in range(2))
        with annotator(settings, "a1", specs=SPECS, model=one) as running:
            wait_until(lambda: running.partitions, 30, "it to be ready")
            publish(settings, TEXTS)
            asking = running.process._asking
            wait_until(lambda: asking.missing == len(TEXTS), 30, "all answers under one spec")
            with annotator(settings, "a2", specs=SPECS, model=other) as joined:
                wait_until(lambda: len(joined.partitions) == 2, 60, "the other's partitions")
                held.set()
                wait_for_labels(settings, 2 * len(TEXTS))
        assert sum(map(about_one, server.requests)) == 2 + len(TEXTS), "one to check for each, then each once"


def test_answers_to_what_was_sent_are_waited_for_when_a_stop_comes_while_partitions_go(
    settings: Settings, held: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reply(_: dict[str, Any]) -> Reply:
        if len(server.requests) > 1:
            held.wait(60)
        return 200, "verdict: helpful"

    with (
        chat_server(reply) as server,
        chat_server(lambda _: (200, "verdict: helpful")) as second,
        annotator(settings, "a1", JUST_ONE, OpenAIModel(JUST_ONE, server.url, "k", 32)) as running,
    ):
        wait_until(lambda: running.partitions, 30, "it to be ready")
        publish(settings, TEXTS)
        wait_until(lambda: len(server.requests) == 1 + len(TEXTS), 30, "all to be sent")
        asking = running.process._asking
        take_back = asking.take_back

        def stopped_meanwhile(*arguments: Any, **named: Any) -> list[Question]:
            running.stopping.set()
            held.set()
            return take_back(*arguments, **named)

        monkeypatch.setattr(asking, "take_back", stopped_meanwhile)
        other = OpenAIModel(JUST_ONE, second.url, "k", 32)
        with annotator(settings, "a2", JUST_ONE, other) as joined:
            wait_until(lambda: len(joined.partitions) == 4, 60, "all partitions")
            wait_for_labels(settings, len(TEXTS))
    assert len(second.requests) == 1, "none is asked twice"


def keys_of(spec: AnnotationSpec) -> set[bytes]:
    return {ids.label_key(ids.spec_id(spec), ids.caption_id(text)) for text in TEXTS}
