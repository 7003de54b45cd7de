"""Partitions that an operator adds move no caption; another setting, which would, is refused."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable

import pytest
from kafka import KafkaAdminClient, TopicPartition

from onibus.consumers.labels.corrections import new_caption
from onibus.infra.errors import OnibusError
from onibus.infra.kafka import clients, lost_positions
from onibus.infra.kafka.partitioning import wide_topics
from onibus.infra.kafka.topic_admin import check_topics, create_topics, require_topics
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.settings import Settings
from tests.consumers.annotating import (
    annotator,
    assert_each_exactly_once,
    publish,
    records,
    rules_specs,
    wait_for_labels,
)
from tests.producers.publishing.sending import publish_captions
from tests.waiting import wait_until

TEXTS = [f"You see here {n} arrows." for n in range(100)]
MORE = [f"You hear the footsteps of guard {n}." for n in range(100)]


@pytest.fixture
def two(settings: Settings) -> Settings:
    """Settings for two partitions, and topics of two."""
    topics = wide_topics(settings)
    with clients.admin(settings) as client:
        client.delete_topics(topics)
        wait_until(lambda: not set(topics) & set(client.list_topics()), 30, "the deletion", interval=0.2)
    fresh = settings.model_copy(update={"partitions": 2})
    create_topics(fresh)
    return fresh


def add_partitions(settings: Settings, count: int, *topics: str) -> None:
    wide = topics or wide_topics(settings)
    with clients.admin(settings) as client:
        client.create_partitions(dict.fromkeys(wide, count))
        wait_until(lambda: partitions_of(client, wide) == {count}, 30, "the partitions")


def partitions_of(client: KafkaAdminClient, topics: Iterable[str]) -> set[int]:
    return {len(topic["partitions"]) for topic in client.describe_topics(list(topics))}


@pytest.mark.slow
@pytest.mark.parametrize("only_captions", [False, True], ids=["all three topics", "captions alone"])
def test_an_annotator_and_rollout_workers_continue_and_pay_for_nothing_twice(
    two: Settings, only_captions: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(clients, "_METADATA_MAX_AGE_MS", 1_000)
    monkeypatch.setattr(lost_positions, "LOOK_AT_PARTITIONS_SECONDS", 0.2)
    captions = TopicNames(two.topic_prefix).captions
    publish(two, TEXTS)
    with annotator(two) as running:
        wait_for_labels(two, len(TEXTS))
        add_partitions(two, 8, *[captions] * only_captions)
        notice = f"{captions} now has 8 partitions instead of 2: the added ones stay unused"
        wait_until(lambda: notice in caplog.text, 30, "a notice of the added partitions")
        publish_captions(two, TEXTS + MORE)
        wait_for_labels(two, len(TEXTS + MORE))
        running.stop()
    with annotator(two) as again:
        publish_captions(two, MORE)
        wait_until(lambda: again.process.summary.known >= len(MORE), 60, "captions seen again")
        assert again.stop().labels == 0
    assert_each_exactly_once(two, rules_specs()[0], TEXTS + MORE)
    assert {record.partition for record in records(two, "captions")} == {0, 1}


def test_added_partitions_are_named_and_stop_nothing(two: Settings, caplog: pytest.LogCaptureFixture) -> None:
    publish(two, TEXTS)
    add_partitions(two, 8)
    captions = TopicNames(two.topic_prefix).captions
    line = f"{captions} has 8 partitions, of which the first 2 are used, as the setting partitions says"
    assert any(found.startswith(line) for found in check_topics(two))
    caplog.set_level(logging.WARNING)
    for role in ("annotator", "rollout", "learner", "trainer"):
        caplog.clear()
        require_topics(two, role=role)
        assert (line in caplog.text) == (role != "trainer"), "which places no captions"


def test_a_setting_that_captions_were_not_assigned_by_is_refused(two: Settings) -> None:
    publish(two, TEXTS)
    add_partitions(two, 8)
    eight = two.model_copy(update={"partitions": 8})
    for role in ("annotator", "rollout", "learner"):
        with pytest.raises(OnibusError, match="written for 2 partitions, but the setting partitions is 8"):
            require_topics(eight, role=role)
    assert any("set it back (--partitions 2 or ONIBUS_PARTITIONS=2)" in line for line in check_topics(eight))
    require_topics(two, role="annotator")


def test_labels_of_captions_that_are_not_judged_yet_go_nowhere_under_another_setting(two: Settings) -> None:
    publish(two, TEXTS)
    add_partitions(two, 8)
    eight = two.model_copy(update={"partitions": 8})
    with pytest.raises(OnibusError, match="written for 2 partitions, but the setting partitions is 8"):
        new_caption(eight, "A bell rings.", now=1)
    assert new_caption(two, "A bell rings.", now=1).partition < 2


def test_a_topic_that_is_missing_from_the_metadata_for_a_while_gets_no_partitions_added(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    captions = TopicNames(settings.topic_prefix).captions
    with contextlib.closing(clients.consumer(settings)) as consumer:
        consumer.assign([TopicPartition(captions, 0)])
        consumer._report_added_partitions()  # nothing is known of the topic yet
        wait_until(lambda: consumer.partitions_for_topic(captions) is not None, 30, "the metadata")
        consumer._report_added_partitions()
    assert "instead of" not in caplog.text


def test_a_setting_below_the_partitions_that_have_captions_is_refused(settings: Settings) -> None:
    publish(settings, TEXTS)
    with pytest.raises(OnibusError, match="has partitions 4, not 2; change the setting: --partitions 4"):
        require_topics(settings.model_copy(update={"partitions": 2}), role="rollout")


def test_topics_without_data_must_have_as_many_partitions_as_the_setting_says(settings: Settings) -> None:
    with pytest.raises(OnibusError, match="has partitions 4, not 2; change the setting: --partitions 4"):
        require_topics(settings.model_copy(update={"partitions": 2}), role="annotator")
