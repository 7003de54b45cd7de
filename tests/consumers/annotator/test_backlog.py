"""Nobody pays by accident: where a group begins, what its backlog takes, which captions it is asked about."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from kafka import TopicPartition
from kafka.consumer.fetcher import ConsumerRecord

from onibus.consumers.annotator.backlog import Backlog, BacklogReader, Owed, _Found, _newest_first
from onibus.consumers.annotator.budget import Limits
from onibus.consumers.annotator.caption_filter import CaptionFilter
from onibus.consumers.annotator.cost import Prices
from onibus.consumers.annotator.group_offsets import find_offsets
from onibus.consumers.language_models.openai import OpenAIModel
from onibus.consumers.specs.spec_file import load_spec
from onibus.infra.errors import OnibusError
from onibus.infra.kafka import clients
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.money import dollars
from onibus.infra.settings import Settings, environment_of
from onibus.schemas import codec, ids
from onibus.schemas.records import Annotation, CaptionObserved
from tests.command import run_onibus, start_onibus, the_one_line
from tests.consumers.annotating import (
    GROUP,
    HeldModel,
    annotator,
    assert_each_exactly_once,
    caption_ends,
    committed_offsets,
    expected_keys,
    label_keys,
    publish,
    records,
    rules_specs,
    wait_for_labels,
)
from tests.consumers.chat_server import chat_server
from tests.topic_time import keep_producers_time
from tests.waiting import wait_until

OLD = [f"You kill {n} old newts." for n in range(30)]
NEW = [f"You kill {n} new newts." for n in range(30)]
SPECS, _ = rules_specs()


def begin(
    settings: Settings, backlog: str | None = None, caption_filter: CaptionFilter | None = None
) -> list[Owed]:
    """Have the tests' group begin; what was to be approved."""
    asked: list[Owed] = []
    reader = BacklogReader(settings, SPECS, caption_filter or CaptionFilter(SPECS), 4)
    group, wanted = settings.topic_prefix + GROUP, None if backlog is None else Backlog.parse(backlog)
    find_offsets(settings, group, wanted, reader, asked.append).commit(settings)
    return asked


def test_a_new_group_begins_at_what_is_seen_from_now_on_and_then_misses_nothing(settings: Settings) -> None:
    publish(settings, OLD)
    assert begin(settings) == []
    publish(settings, NEW[:10])
    with annotator(settings):
        wait_for_labels(settings, 10)
    publish(settings, NEW[10:])  # while nobody is there
    assert begin(settings) == []
    with annotator(settings):
        wait_for_labels(settings, len(NEW))
    assert_each_exactly_once(settings, SPECS, NEW)


@pytest.mark.parametrize(("backlog", "owed", "most_read"), [("5", 5, 30), ("40", 40, 240), ("all", 60, 60)])
def test_of_the_log_no_more_is_read_than_the_backlog_asks_for(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, backlog: str, owed: int, most_read: int
) -> None:
    topic = TopicNames(settings.topic_prefix).captions
    keep_producers_time(settings, topic)
    producer, now = clients.producer(settings), round(1000 * time.time())
    for minutes, texts in ((500, OLD), (0.1, NEW)):
        for text in texts:
            key = ids.caption_id(text)
            observed = CaptionObserved(text, "score", "run", 0, 0, 0, 1, -1, 1)
            partition = ids.caption_partition(key, settings.partitions)
            written_at = now - round(60_000 * minutes)
            value = codec.encode(observed)
            producer.send(topic, key=key, value=value, partition=partition, timestamp_ms=written_at)
    producer.close()
    read, take = [0], BacklogReader._take

    def counted(self: BacklogReader, records: Sequence[ConsumerRecord], *rest: Any) -> None:
        read[0] += len(records)
        take(self, records, *rest)

    monkeypatch.setattr(BacklogReader, "_take", counted)
    (asked,) = begin(settings, backlog)
    assert asked.captions == owed
    assert owed <= read[0] <= most_read


def test_a_caption_of_the_backlog_that_is_still_met_is_judged(settings: Settings) -> None:
    publish(settings, OLD)
    begin(settings)
    publish(settings, OLD[:1])  # published again, a minute later
    with annotator(settings):
        wait_for_labels(settings, 1)
    assert_each_exactly_once(settings, SPECS, OLD[:1])


def test_all_of_the_backlog_is_told_of_and_asked_about_once(settings: Settings) -> None:
    publish(settings, [*OLD, *OLD])
    (owed,) = begin(settings, "all")
    assert (owed.captions, owed.questions) == (len(OLD), len(OLD))
    assert owed.cost.tokens_in > 100 * len(OLD)
    with annotator(settings):
        wait_for_labels(settings, len(OLD))
    assert begin(settings, "all") == [], "every caption has its label"
    assert_each_exactly_once(settings, SPECS, OLD)


def test_a_group_that_began_without_its_backlog_can_fetch_it_later(settings: Settings) -> None:
    publish(settings, OLD)
    begin(settings)
    publish(settings, NEW)
    with annotator(settings):
        wait_for_labels(settings, len(NEW))
        with pytest.raises(OnibusError, match="is at work"):
            begin(settings, "all")
    (owed,) = begin(settings, "all")
    assert owed.captions == len(OLD)
    with annotator(settings):
        wait_for_labels(settings, len(NEW) + len(OLD))
    assert_each_exactly_once(settings, SPECS, [*NEW, *OLD])


def test_of_a_number_the_newest_are_asked_about(settings: Settings) -> None:
    publish(settings, OLD)
    publish(settings, NEW)
    (owed,) = begin(settings, "30")
    assert owed.captions == 30
    with annotator(settings):
        wait_for_labels(settings, 30)
        publish(settings, ["You kill the last newt."])
        wait_for_labels(settings, 31)
    assert label_keys(settings).keys() == expected_keys(SPECS, [*NEW, "You kill the last newt."])


@pytest.mark.parametrize("backlog", ["1", "7", "30"])
def test_no_more_are_asked_about_than_was_said(backlog: str, settings: Settings) -> None:
    """Captions that are published together have the same time."""
    publish(settings, [*OLD, *NEW])
    (owed,) = begin(settings, backlog)
    assert owed.captions == int(backlog)
    with annotator(settings):
        wait_for_labels(settings, owed.captions)
        publish(settings, ["You kill the last newt."])
        wait_for_labels(settings, owed.captions + 1)
    assert len(label_keys(settings)) == owed.captions + 1


def test_a_backlog_that_was_interrupted_goes_no_deeper_when_it_is_asked_for_again(settings: Settings) -> None:
    publish(settings, [*OLD, *NEW])
    (owed,) = begin(settings, "20")
    assert (owed.captions, owed.anyhow) == (20, 0)
    model = HeldModel(rules_specs()[1], allowed=5)
    with annotator(settings, model=model):
        wait_for_labels(settings, 5)
    (rest,) = begin(settings, "20")
    assert (rest.captions, rest.anyhow) == (15, 15)
    (deeper,) = begin(settings, "30")
    assert (deeper.captions, deeper.anyhow) == (25, 15)
    with annotator(settings):
        wait_for_labels(settings, 30)
    assert begin(settings, "30") == []
    assert len(label_keys(settings)) == 30


def test_comparisons_that_a_deeper_backlog_leads_to_are_announced(settings: Settings) -> None:
    """Labels set the group back; what lies behind is read for comparisons, too."""
    specs, rules = rules_specs("goals", "goals-pairs")
    reader = BacklogReader(settings, specs, CaptionFilter(specs), 2)
    group = settings.topic_prefix + GROUP
    publish(settings, [*OLD, *NEW])

    def announced_and_asked(number: str) -> tuple[int, int]:
        owed: list[Owed] = []
        find_offsets(settings, group, Backlog.parse(number), reader, owed.append).commit(settings)
        model = HeldModel(rules, allowed=1_000)
        with annotator(settings, specs=specs, model=model, comparisons=2) as running:
            wait_until(lambda: running.partitions, 30, "it to be ready")
            wait_until(lambda: committed_offsets(settings) == caption_ends(settings), 60, "all to be asked")
        return owed[0].questions, model.asked.total()

    announced, asked = announced_and_asked("20")
    assert announced == 60
    left = announced - asked  # two captions that lead to one pair at a time have one question
    assert 0 <= left < 20
    announced, asked = announced_and_asked("30")
    assert 30 <= announced <= 30 + left
    assert 10 < asked <= announced


def test_what_is_owed_anyhow_is_announced(settings: Settings) -> None:
    begin(settings)
    publish(settings, NEW)
    (owed,) = begin(settings, "5")
    assert (owed.captions, owed.questions, owed.anyhow) == (len(NEW), len(NEW), len(NEW))
    assert "is 30 captions, 30 of them owed anyhow: 30 questions" in owed.line(Backlog.parse("5"), Prices())


def test_times_out_of_order_do_not_add_to_what_is_asked_about() -> None:
    place = TopicPartition("captions", 0)
    times = (5, 9, 7, 9, 8)
    found = [_Found(place, n, t, bytes([n]), 1, frozenset()) for n, t in enumerate(times)]
    assert [one.offset for one in _newest_first(found)] == [4, 3, 2, 1, 0]


def test_what_is_older_than_a_time_is_left_out(settings: Settings) -> None:
    publish(settings, OLD)
    assert begin(settings, "2099-01-01") == []
    assert begin(settings, "1h")[0].captions == len(OLD)
    with pytest.raises(OnibusError, match="--backlog soon"):
        Backlog.parse("soon")


def test_only_captions_of_a_specs_own_tasks_and_of_the_named_runs_are_asked_about(settings: Settings) -> None:
    spec = next(iter(SPECS))
    mine = CaptionFilter(SPECS, {spec: ("keyroom-*",)}, only_runs=("a*",))
    seen = {
        (task, run): CaptionObserved("It is dark.", task, run, 0, 0, 0, 1, -1, 1)
        for task in ("keyroom-s5", "score")
        for run in ("a1", "b1")
    }
    assert mine.specs(seen["keyroom-s5", "a1"]) == {spec}
    assert mine.specs(seen["keyroom-s5", "b1"]) == mine.specs(seen["score", "a1"]) == frozenset()
    assert CaptionFilter(SPECS, only_tasks=("gold", "score")).specs(seen["score", "b1"]) == {spec}
    publish(settings, OLD)  # of the task score
    assert begin(settings, "all", CaptionFilter(SPECS, {spec: ("keyroom-*",)})) == []


def test_the_command_asks_before_it_spends(settings: Settings) -> None:
    publish(settings, OLD)
    environment, folder = environment_of(settings), settings.runs_dir
    with chat_server(lambda _: (200, "verdict: helpful")) as server:
        flags = ["annotate", "--llm", "openai", "--base-url", server.url, "--model", "m"]
        priced = [*flags, "--price-in", "1", "--price-out", "2", "--backlog", "all"]
        said = the_one_line(run_onibus(*priced, folder=folder, environment=environment))
        assert not server.requests
    assert "30 captions: 30 questions" in said
    assert "--yes" in said
    assert "at most $0.0" in said
    with chat_server(lambda _: (200, "verdict: helpful")) as server:
        flags = ["annotate", "--llm", "openai", "--base-url", server.url, "--model", "m"]
        others = run_until(settings, [*flags, "--backlog", "all", "--task", "keyroom-*"])
    assert "ready: " in others, "no caption is of such a task, so there is nothing to agree to"
    assert not label_keys(settings)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_approved_backlog_is_not_owed_before_the_model_has_answered(
    workers: int, settings: Settings
) -> None:
    publish(settings, OLD)
    group = f"{settings.topic_prefix}mine"
    flags = ["annotate", "--llm", "openai", "--model", "m", "--group", "mine", "--workers", workers]
    paid = [*flags, "--backlog", "all", "--yes"]
    with chat_server(lambda _: (401, "no such key")) as server:
        refused = run_onibus(
            *paid, "--base-url", server.url, folder=settings.runs_dir, environment=environment_of(settings)
        )
    assert refused.returncode == 2
    assert "refuses the key" in refused.stderr
    with clients.consumer(settings, group_id=group) as reader:
        topic = TopicNames(settings.topic_prefix).captions
        assert not any(reader.committed(tp) for tp in clients.partitions_of(reader, topic))
    with chat_server(lambda _: (200, "verdict: helpful")) as server:
        run_until(
            settings, [*paid, "--base-url", server.url], lambda _: len(label_keys(settings)) >= len(OLD)
        )
    assert set(label_keys(settings).values()) == {1}
    assert len(label_keys(settings)) == len(OLD)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_signals_end_the_question_whether_to_ask(
    settings: Settings, number: signal.Signals, workers: str
) -> None:
    publish(settings, OLD)
    ours, theirs = pty.openpty()
    flags = ["--llm", "openai", "--base-url", "http://127.0.0.1:9/v1", "--model", "m", "--workers", workers]
    child = subprocess.Popen(
        [sys.executable, "-m", "onibus", "annotate", *flags, "--backlog", "all"],
        env=os.environ | environment_of(settings) | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        # On a terminal SIGINT is not ignored, as it is by what a shell starts in the background.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    os.close(theirs)
    try:
        shown = b""
        while b"[y/N]" not in shown:
            shown += os.read(ours, 10_000)
        assert ended_by(child, number) in (130, -signal.SIGTERM)
    finally:
        child.kill()
        os.close(ours)


def ended_by(child: subprocess.Popen[bytes], number: signal.Signals) -> int:
    """Its exit code after a signal, or after a second one.

    Python sees a signal that comes between the question and the reading of the answer, while readline
    begins, when the next one interrupts that.
    """
    child.send_signal(number)
    with contextlib.suppress(subprocess.TimeoutExpired):
        return child.wait(5)
    child.send_signal(number)
    return child.wait(30)


def run_until(
    settings: Settings, flags: list[Any], has_come: Callable[[str], bool] = lambda log: "ready: " in log
) -> str:
    """The log of an annotator that is stopped once something has come, judged by its log so far."""
    path = settings.runs_dir / "annotator.log"
    with path.open("wb") as log:
        child = start_onibus(*flags, environment=environment_of(settings), stderr=log)
    try:
        wait_until(lambda: has_come(path.read_text()) or child.poll() is not None, 60, "what it is for")
        child.send_signal(signal.SIGTERM)
        child.wait(20)
    finally:
        child.kill()
    return path.read_text()


def test_prices_are_kept_with_the_answers_and_told_without_being_given_again(settings: Settings) -> None:
    spec = load_spec("goals", "m")
    specs = {ids.spec_id(spec): spec}
    limits = Limits(prices=Prices(1.0, 10.0))
    with chat_server(lambda _: (200, "verdict: helpful")) as server:
        model = OpenAIModel(specs, server.url, "k", 8)
        with annotator(settings, "a1", specs, model, limits=limits) as running:
            wait_until(lambda: running.partitions, 30, "it to be ready")
            publish(settings, NEW)
            wait_for_labels(settings, len(NEW))
            running.stop()
    answers = [codec.decode(Annotation, r.value) for r in records(settings, "annotations")]
    each = (answers[0].tokens_in + 10 * answers[0].tokens_out) / 1e6
    assert all(a.usd == pytest.approx(each) for a in answers)
    assert running.summary is not None
    assert running.summary.usd == pytest.approx(each * (len(NEW) + 1)), (
        "the question of the start counts, too"
    )
    shown = run_onibus("status", "--json", folder=settings.runs_dir, environment=environment_of(settings))
    status = json.loads(shown.stdout)
    assert [cost["usd"] for cost in status["costs"]] == [pytest.approx(each * len(NEW))]
    assert status["costs"][0]["unpriced_tokens"] == 0


def test_labels_of_captions_that_waited_for_the_annotator_are_counted_apart(settings: Settings) -> None:
    publish(settings, OLD)
    with annotator(settings):
        wait_for_labels(settings, len(OLD))
        publish(settings, NEW)
        wait_for_labels(settings, len(OLD) + len(NEW))
    answers = [codec.decode(Annotation, r.value) for r in records(settings, "annotations")]
    assert {a.was_waiting for a in answers if a.texts[0] in NEW} == {False}
    assert {a.was_waiting for a in answers if a.texts[0] in OLD} == {True}
    shown = run_onibus("status", "--json", folder=settings.runs_dir, environment=environment_of(settings))
    (only,) = json.loads(shown.stdout)["specs"]
    assert only["answers_waiting"] == len(OLD)
    assert only["latency_p99"] < 5


@pytest.mark.parametrize(
    ("usd", "shown"),
    [(0.0, "$0"), (0.0000123, "$0.000012"), (0.004, "$0.0040"), (0.25, "$0.25"), (1234.5, "$1,234.50")],
)
def test_a_sum_of_money_is_never_rounded_to_nothing(usd: float, shown: str) -> None:
    assert dollars(usd) == shown
