"""A log is read to where it ended at the start, until stopped, or until there is no more progress."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator

import pytest
from kafka import KafkaConsumer, TopicPartition

from onibus.consumers.annotator.budget import GroupBudget, Limits
from onibus.consumers.annotator.comparison_partners import ComparisonPartners
from onibus.consumers.annotator.partners_reader import PartnersReader
from onibus.infra.errors import OnibusError
from onibus.infra.kafka import clients
from onibus.infra.kafka.codecs import codec_for
from onibus.infra.kafka.log_end import until_end
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.settings import Settings
from tests.consumers.annotating import publish
from tests.consumers.reward_models.annotation_logs import SPEC, SPEC_ID, annotation, publish_annotations

TEXTS = [f"caption {n}" for n in range(40)]


@pytest.fixture
def captions(settings: Settings) -> Iterator[tuple[KafkaConsumer, list[TopicPartition]]]:
    publish(settings, TEXTS)
    consumer = clients.consumer(settings, max_poll_records=1)
    yield consumer, clients.partitions_of(consumer, TopicNames(settings.topic_prefix).captions)
    consumer.close()


def test_everything_that_was_there_at_the_start_is_read(
    captions: tuple[KafkaConsumer, list[TopicPartition]],
) -> None:
    consumer, partitions = captions
    texts = 0
    for _ in until_end(consumer, partitions):
        texts += sum(map(len, consumer.poll(timeout_ms=500).values()))
    assert texts == len(TEXTS)


def test_progress_is_logged_up_to_the_end(
    captions: tuple[KafkaConsumer, list[TopicPartition]],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("onibus.infra.kafka.log_end._REPORT_SECONDS", 0.0)
    consumer, partitions = captions
    with caplog.at_level(logging.INFO, "onibus.infra.kafka.log_end"):
        for _ in until_end(consumer, partitions):
            consumer.poll(timeout_ms=500)
    passed = [int(n) for n in re.findall(r"captions: (\d+) of 40 offsets", caplog.text)]
    assert passed
    assert passed == sorted(passed)


def test_a_log_without_progress_is_named_with_what_to_check(
    captions: tuple[KafkaConsumer, list[TopicPartition]],
) -> None:
    with pytest.raises(
        OnibusError, match=r"captions could not be read to its end: .* 40 offsets left; check that"
    ):
        for _ in until_end(*captions, stall_seconds=0.5):
            pass  # nothing is polled


def test_a_reader_that_is_stopped_reads_no_further(
    captions: tuple[KafkaConsumer, list[TopicPartition]],
) -> None:
    stopping, steps = threading.Event(), 0
    for _ in until_end(*captions, stopping):
        steps += 1
        stopping.set()
    assert steps == 1


def test_an_annotator_that_stops_waits_for_neither_budget_nor_pool(settings: Settings) -> None:
    publish(settings, TEXTS)
    publish_annotations(settings, [annotation(TEXTS[0])])
    stopping = threading.Event()
    stopping.set()
    pool = ComparisonPartners()
    feed = PartnersReader(settings, codec_for(settings), pool)
    feed.load(stopping)
    feed.close()
    budget = GroupBudget(settings, codec_for(settings), Limits(tokens=1_000), {SPEC_ID: SPEC}, "a1", "g")
    budget.load(stopping)
    budget.close()
    assert budget.line() == "0 of 1,000 tokens"
