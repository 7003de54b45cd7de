"""The model, the group and the commits do not wait for each other."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from onibus.consumers.language_models.base import Answer, Question
from onibus.consumers.language_models.openai import OpenAIModel
from onibus.consumers.specs.spec_file import load_spec
from onibus.infra.settings import Settings
from onibus.schemas import ids
from tests.consumers.annotating import (
    HeldModel,
    annotator,
    assert_each_exactly_once,
    publish,
    records,
    rules_specs,
    wait_for_labels,
)
from tests.consumers.chat_server import chat_server
from tests.waiting import wait_until


def test_the_next_questions_are_asked_and_captions_read_while_the_last_answers_are_committed(
    settings: Settings,
) -> None:
    committing, go_on = threading.Event(), threading.Event()

    def on_step(step: str) -> None:
        if step == "offsets sent":
            committing.set()
            go_on.wait(timeout=8)

    texts = [f"You kill {n} newts." for n in range(10)]
    late = [f"You hear {n} bells." for n in range(3)]
    spec = load_spec("goals", "m")
    specs = {ids.spec_id(spec): spec}
    publish(settings, texts)
    with chat_server(lambda _: (200, "verdict: helpful")) as server:
        model = OpenAIModel(specs, server.url, "k", 5)
        with annotator(settings, specs=specs, model=model, most_under_way=5, on_step=on_step) as one:
            try:
                assert committing.wait(timeout=30)
                wait_until(lambda: len(server.requests) == 1 + len(texts), 5, "the next questions")
                publish(settings, late)  # with the commit still held
                wait_until(lambda: len(server.requests) == 1 + len(texts) + len(late), 5, "the late ones")
                assert not records(settings, "labels")
            finally:
                go_on.set()
            wait_for_labels(settings, len(texts) + len(late))
            assert one.stop().failed_transactions == 0
        assert_each_exactly_once(settings, specs, texts + late)
        assert len(server.requests) == 1 + len(texts) + len(late), "one to check, then one a caption"


def test_answers_that_come_one_by_one_and_fast_are_committed_in_few_transactions(settings: Settings) -> None:
    class Steady(HeldModel):
        """Answers one question every four milliseconds."""

        async def answer(self, question: Question) -> Answer:
            self.asked[question.text] += 1
            await asyncio.sleep(0.004 * len(self.asked))
            return await self._inner.answer(question)

    specs, rules = rules_specs()
    texts = [f"You see here {n} arrows." for n in range(600)]
    with annotator(settings, model=Steady(rules), most_under_way=len(texts)) as one:
        wait_until(lambda: len(one.partitions) == settings.partitions, 30, "partitions")
        publish(settings, texts)
        wait_for_labels(settings, len(texts))
        assert one.stop().transactions <= 20
    assert_each_exactly_once(settings, specs, texts)


@pytest.mark.slow
def test_a_model_that_thinks_longer_than_the_group_waits_for_a_poll_costs_no_membership(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onibus.consumers.annotator.group_member._MAX_POLL_INTERVAL_MS", 2_500)
    specs, rules = rules_specs()
    held = HeldModel(rules)
    texts = [f"You see here {n} arrows." for n in range(20)]
    publish(settings, texts)
    with annotator(settings, model=held) as one:
        wait_until(lambda: len(held.asked) == len(texts), 30, "every caption to be under way")
        member = one.process._member
        assert member is not None
        before, since = member.stable_metadata(), time.monotonic()
        wait_until(lambda: time.monotonic() > since + 6, 10, "twice the longest time between polls to pass")
        assert member.stable_metadata() == before
        held.open.set()
        wait_for_labels(settings, len(texts))
        assert one.stop().failed_transactions == 0
    assert_each_exactly_once(settings, specs, texts)
    assert set(held.asked.values()) == {1}
