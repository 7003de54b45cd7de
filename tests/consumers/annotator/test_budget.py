"""Budgets: what fits, what is counted, and that a group stops before it has spent more."""

from __future__ import annotations

import json
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from kafka.structs import OffsetAndMetadata

from onibus.consumers.annotator.budget import GroupBudget, Limits, dearest_question
from onibus.consumers.annotator.cost import Cost, Prices
from onibus.consumers.annotator.options import AnnotateOptions
from onibus.consumers.annotator.run import spending_limits
from onibus.consumers.annotator.spent_mark import SpentMark, spent_of
from onibus.consumers.language_models.openai import OpenAIModel
from onibus.consumers.specs.spec_file import load_spec
from onibus.infra.errors import OnibusError
from onibus.infra.kafka.same_log_check import Mark
from onibus.infra.settings import Settings, environment_of
from onibus.schemas import codec, ids
from onibus.schemas.codec import R, SingleObjectCodec
from onibus.schemas.records import Annotation, AnnotationSpec
from tests.command import run_onibus
from tests.consumers.annotating import (
    GROUP,
    annotator,
    caption_ends,
    committed_offsets,
    publish,
    records,
)
from tests.consumers.chat_server import chat_server, completion
from tests.consumers.reward_models.annotation_logs import (
    SPEC,
    SPEC_ID,
    TEXTS,
    annotation,
    publish_annotations,
)
from tests.waiting import wait_until

DEAREST = Cost(tokens_in=900, tokens_out=100)
PRICES = Prices(usd_in=1.0, usd_out=10.0)  # the dearest question costs 0.0019 dollars


@pytest.mark.parametrize(
    ("limits", "spent", "share", "questions"),
    [
        (Limits(), Cost(), 1.0, None),
        (Limits(tokens=10_000), Cost(), 1.0, 10),
        (Limits(tokens=10_000), Cost(tokens_in=5_000, tokens_out=500), 1.0, 4),
        (Limits(tokens=10_000), Cost(tokens_in=5_000), 0.25, 1),
        (Limits(tokens=10_000), Cost(tokens_in=9_500), 1.0, 0),
        (Limits(tokens=10_000), Cost(tokens_in=20_000), 1.0, 0),
        (Limits(usd=0.019, prices=PRICES), Cost(), 1.0, 10),
        (Limits(usd=0.019, prices=PRICES), Cost(tokens_out=1_000), 1.0, 4),
        (Limits(tokens=2_000, usd=0.019, prices=PRICES), Cost(), 1.0, 2),
    ],
)
def test_what_fits(limits: Limits, spent: Cost, share: float, questions: int | None) -> None:
    fits = limits.questions(spent, DEAREST, share)
    assert fits == float("inf") if questions is None else int(fits + 1e-9) == questions


def test_a_budget_in_dollars_needs_prices() -> None:
    with pytest.raises(OnibusError, match="--price-in"):
        spending_limits(AnnotateOptions(budget_usd=1.0))
    assert spending_limits(AnnotateOptions()) is None
    only_prices = spending_limits(AnnotateOptions(price_in=1.0))
    assert only_prices is not None
    assert not only_prices.are_given


def test_answers_that_cannot_be_read_are_within_the_budget_too(settings: Settings) -> None:
    spec = load_spec("goals", "m")
    specs = {ids.spec_id(spec): spec}
    once = len((spec.template + spec.goal).encode()) + 512 + int(spec.sampling["max_tokens"])
    usage = {"prompt_tokens": once - 100, "completion_tokens": 100}
    limits = Limits(tokens=7 * once)
    publish(settings, [f"You kill {n} newts." for n in range(20)])
    with chat_server(lambda _: (200, completion("It depends.") | {"usage": usage})) as server:
        model = OpenAIModel(specs, server.url, "k", 8)
        with annotator(settings, "a1", specs, model, most_under_way=8, limits=limits) as running:
            wait_until(lambda: running.summary is not None, 60, "it to stop by itself")
    answers = [codec.decode(Annotation, r.value) for r in records(settings, "annotations")]
    assert limits.tokens is not None
    assert 0 < sum(a.tokens_in + a.tokens_out for a in answers) <= limits.tokens
    assert len(server.requests) == 1 + len(answers), "none was paid for and lost"


@pytest.mark.parametrize("usage", [None, {"prompt_tokens": 0, "completion_tokens": 0}])
def test_a_budget_is_kept_with_a_server_that_does_not_count(
    settings: Settings, usage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    spec = load_spec("goals", "m")
    specs = {ids.spec_id(spec): spec}
    limits = Limits(tokens=20_000)
    publish(settings, [f"You kill {n} newts." for n in range(300)])
    with chat_server(lambda _: (200, completion("verdict: helpful") | {"usage": usage})) as server:
        model = OpenAIModel(specs, server.url, "k", 8)
        with annotator(settings, "a1", specs, model, most_under_way=8, limits=limits) as running:
            wait_until(lambda: running.summary is not None, 60, "it to stop by itself")
        written = sum(len(r["messages"][0]["content"]) for r in server.requests)
    answers = [codec.decode(Annotation, r.value) for r in records(settings, "annotations")]
    tokens = sum(a.tokens_in + a.tokens_out for a in answers)
    probe = tokens / len(answers)  # the question of the start, which is on no log
    assert 20_000 - dearest_question([spec]).tokens < tokens + probe <= 20_000
    assert written / 4 < tokens, "an estimate errs on the safe side"
    assert all(a.tokens_are_estimated for a in answers)
    most = f"{dearest_question([spec]).tokens:,} tokens"
    assert f" of 20,000 tokens, and one more question may cost {most};" in caplog.text


class CountingCodec(SingleObjectCodec):
    """Counts the annotations that are read."""

    read = 0

    def decode(self, record_type: type[R], data: bytes | None) -> R:
        self.read += record_type is Annotation
        return super().decode(record_type, data)


def test_a_start_adds_up_only_what_came_since_the_sums_beside_the_offsets(settings: Settings) -> None:
    spec = load_spec("goals", "m")
    specs = {ids.spec_id(spec): spec}
    limits = Limits(tokens=10_000_000)
    group = settings.topic_prefix + GROUP

    def spent_by(specs: dict[bytes, AnnotationSpec], codec: CountingCodec) -> str:
        budget = GroupBudget(settings, codec, limits, specs, "a9", group)
        budget.load(threading.Event())
        budget.close()
        return budget.line()

    publish_annotations(settings, [annotation(text) for text in TEXTS])  # others', which are not read
    with chat_server(lambda _: (200, "verdict: helpful")) as server:
        for texts in ([f"You kill {n} newts." for n in range(100)], ["You hear a bell."]):
            publish(settings, texts)
            model = OpenAIModel(specs, server.url, "k", 8)
            with annotator(settings, "a1", specs, model, limits=limits):
                wait_until(lambda: committed_offsets(settings) == caption_ends(settings), 60, "all judged")
    answers = [codec.decode(Annotation, r.value) for r in records(settings, "annotations")]
    tokens = sum(a.tokens_in + a.tokens_out for a in answers)
    restarting, other = CountingCodec(), CountingCodec()
    assert spent_by(specs, restarting) == f"{tokens:,} of 10,000,000 tokens"
    assert restarting.read < 101
    assert spent_by({**specs, SPEC_ID: SPEC}, other) == f"{tokens:,} of 10,000,000 tokens"
    assert other.read == len(answers), "the sums are of other specs"


@pytest.mark.parametrize("text", ["", "7:00ff", ";spent:", ";spent:ab,1,2", ";spent:ab,1,2,3,4,5,much"])
def test_what_is_no_sum_is_taken_for_none(text: str) -> None:
    assert SpentMark.parse(text) is None


def test_sums_stand_behind_the_mark_of_the_position() -> None:
    cost = Cost(tokens_in=5, tokens_out=7, usd=0.1 + 0.2, priced_in=3, priced_out=1)
    position, spent = Mark.of(12, b"caption-id-16-by"), SpentMark("ab", 99, cost)
    text = position.text() + spent.text()
    assert Mark.parse(text) == position
    assert SpentMark.parse(text) == spent
    assert spent_of(OffsetAndMetadata(3, text, -1)) == spent.text()
    assert spent_of(OffsetAndMetadata(3, position.text(), -1)) == spent_of(None) == ""


def test_two_annotators_stop_by_themselves_before_the_group_has_spent_more_and_stay_stopped(
    settings: Settings, tmp_path: Path
) -> None:
    spec = load_spec("goals", "m")
    specs = {ids.spec_id(spec): spec}
    limits = Limits(tokens=60 * 14 + dearest_question([spec]).tokens)  # sixty answers and a reserve
    texts = [f"You kill {n} newts." for n in range(200)]
    publish(settings, texts)
    with chat_server(lambda _: (200, "verdict: helpful")) as server, ExitStack() as stack:
        running = []
        for name in ("a1", "a2"):
            model = OpenAIModel(specs, server.url, "k", 8)
            running.append(
                stack.enter_context(annotator(settings, name, specs, model, most_under_way=8, limits=limits))
            )
        wait_until(lambda: all(r.summary is not None for r in running), 60, "both to stop by themselves")
        asked = len(server.requests)
        again = OpenAIModel(specs, server.url, "k", 8)
        with annotator(settings, "a3", specs, again, limits=limits) as late:
            wait_until(lambda: late.summary is not None, 30, "the third to stop too")
        assert len(server.requests) == asked + 1, "it asked the question of the start only"
    answers = [codec.decode(Annotation, r.value) for r in records(settings, "annotations")]
    tokens = sum(a.tokens_in + a.tokens_out for a in answers)
    assert limits.tokens is not None
    assert limits.tokens - dearest_question([spec]).tokens < tokens + 14 * 2 <= limits.tokens
    assert all(r.error is None for r in running)

    shown = run_onibus(
        "status", "--json", "--price-in", 1, folder=tmp_path, environment=environment_of(settings)
    )
    status: dict[str, Any] = json.loads(shown.stdout)
    assert sum(cost["tokens_in"] for cost in status["costs"]) == 11 * len(answers)
    assert sum(cost["usd"] for cost in status["costs"]) == pytest.approx(11e-6 * len(answers))
    assert {cost["annotator"] for cost in status["costs"]} <= {"a1", "a2"}
    (only,) = status["specs"]
    assert (only["spec"], only["labels"]) == ("goals", len(answers))
    assert only["answers_waiting"] == len(answers), "they stood on the log before the annotators came"
    assert only["latency_p99"] is None
    (group,) = status["groups"]
    assert sum(group["lag"].values()) >= len(texts) - len(answers)
