"""Topics: created once, and every difference from the table named."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from kafka.admin import ConfigResource, ConfigResourceType

from onibus.infra.errors import OnibusError
from onibus.infra.kafka.clients import admin
from onibus.infra.kafka.topic_admin import (
    TopicState,
    advice,
    check_topics,
    create_topics,
    describe_topics,
    differences,
    require_topics,
)
from onibus.infra.kafka.topics import DAY_MS, TopicNames, topic_table
from onibus.infra.settings import Settings, environment_of, load_settings
from tests.command import run_onibus, the_one_line
from tests.waiting import wait_until


def test_created_topics_are_as_the_table_says(settings: Settings) -> None:
    assert check_topics(settings) == []
    require_topics(settings)
    assert set(describe_topics(settings, topic_table(settings))) == {t.name for t in topic_table(settings)}


def test_creating_again_creates_nothing(settings: Settings) -> None:
    assert create_topics(settings) == []


def test_only_what_is_missing_is_created(settings: Settings) -> None:
    labels = TopicNames(settings.topic_prefix).labels
    with admin(settings) as client:
        client.delete_topics([labels])
    missing = [f"{labels} is missing"]
    wait_until(lambda: check_topics(settings) == missing, what="the topic's deletion")
    assert create_topics(settings) == [labels]


def test_a_topic_with_other_partitions_is_named_and_left_alone(settings: Settings) -> None:
    other = settings.model_copy(update={"partitions": 7})
    names = TopicNames(settings.topic_prefix)
    assert create_topics(other) == []
    wide = (names.captions, names.labels, names.annotations)
    assert check_topics(other) == [f"{name} has partitions 4, not 7" for name in wide]
    with pytest.raises(OnibusError, match=f"partitions 4, not 7: {names.captions}, {names.labels}"):
        require_topics(other, role="annotator")
    with admin(settings) as client:
        client.delete_topics([names.episodes])
    wait_until(lambda: check_topics(settings) == [f"{names.episodes} is missing"], what="its deletion")
    require_topics(settings, role="annotator")  # which has nothing to do with episodes


def test_a_topic_with_another_configuration_is_named(settings: Settings) -> None:
    labels = TopicNames(settings.topic_prefix).labels
    with admin(settings) as client:
        client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, labels, {"cleanup.policy": "delete"})])
    expected = [f"{labels} has cleanup.policy delete, not compact"]
    wait_until(lambda: check_topics(settings) == expected, what="the changed configuration")


def test_a_retention_that_an_operator_chose_is_reported_and_stops_nothing(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    names = TopicNames(settings.topic_prefix)
    fortnight = str(14 * DAY_MS)
    with admin(settings) as client:
        client.alter_configs(
            [
                ConfigResource(ConfigResourceType.TOPIC, name, {"retention.ms": fortnight})
                for name in (names.captions, names.annotations)
            ]
        )
    expected = [
        f"{names.captions} has retention.ms {fortnight}, not {7 * DAY_MS}",
        f"{names.annotations} has retention.ms {fortnight}, not -1",
    ]
    wait_until(lambda: check_topics(settings) == expected, what="the changed configuration")
    require_topics(settings, role="annotator")
    assert f"{expected[0]}: records are kept for that long" in caplog.messages
    assert f"{expected[1]}: what is deleted cannot be replayed; set retention.ms to -1" in caplog.text


def test_a_cleanup_policy_that_loses_labels_is_refused(settings: Settings) -> None:
    labels = TopicNames(settings.topic_prefix).labels
    with admin(settings) as client:
        client.alter_configs(
            [ConfigResource(ConfigResourceType.TOPIC, labels, {"cleanup.policy": "compact,delete"})]
        )
    wait_until(lambda: check_topics(settings), what="the changed configuration")
    with pytest.raises(OnibusError, match=r"cleanup\.policy compact,delete, not compact: "):
        require_topics(settings, role="learner")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        ({"partitions": 1}, ["t has partitions 1, not 4"]),
        ({"replication": 1}, ["t has replication 1, not 3"]),
        ({"config": {"retention.ms": "5"}}, ["t has retention.ms 5, not 10"]),
        ({"config": {}}, ["t has retention.ms unknown, not 10"]),
        ({"partitions": 1, "replication": 2}, ["t has partitions 1, not 4", "t has replication 2, not 3"]),
    ],
)
def test_each_difference_is_one_line(change: dict[str, object], expected: list[str]) -> None:
    first = topic_table(load_settings())[0]
    wanted = replace(first, name="t", partitions=4, replication=3, config={"retention.ms": "10"})
    found = replace(TopicState(4, 3, {"retention.ms": "10"}), **change)
    assert differences(wanted, found) == expected


def test_a_missing_topic_is_a_difference() -> None:
    first = replace(topic_table(load_settings())[0], name="t")
    assert differences(first, None) == ["t is missing"]


def test_more_copies_than_brokers_are_refused_in_one_line(settings: Settings) -> None:
    greedy = settings.model_copy(update={"topic_prefix": f"greedy-{settings.topic_prefix}", "replication": 3})
    line = r"cannot be created in 3 copies: the cluster has 1 broker; give --replication 1, or add brokers$"
    with pytest.raises(OnibusError, match=line):
        create_topics(greedy)


@pytest.mark.parametrize(
    ("lines", "advised"),
    [
        (["a is missing"], "create missing ones with: onibus topics create"),
        (["a has partitions 4, not 7", "b has partitions 4, not 7"], "give --partitions 4 to use the topics"),
        (["a has partitions 8, not 4; change the setting: --partitions 8"], ""),
        (["a has cleanup.policy compact,delete, not compact"], "change topics with: kafka-configs --alter"),
    ],
)
def test_only_advice_that_applies_is_given(lines: list[str], advised: str) -> None:
    assert advice(lines).startswith(advised)
    assert ("create" in advice(lines)) is ("missing" in lines[0])


def test_topics_that_exist_with_other_settings_are_named_by_what_differs(
    settings: Settings, tmp_path: Path
) -> None:
    other = settings.model_copy(update={"replication": 3})
    result = run_onibus("topics", "create", folder=tmp_path, environment=environment_of(other))
    names = ", ".join(topic.name for topic in topic_table(settings))
    assert result.stdout.splitlines() == [
        f"{len(topic_table(settings))} topics, all there already",
        f"replication 1, not 3: {names}",
        f"min.insync.replicas 1, not 2: {names}",
    ]
    assert the_one_line(result) == (
        "onibus: the topics are not as they should be; give --replication 1 to use the topics as they are, "
        "or change the topics"
    )


@pytest.mark.slow
def test_the_command_creates_checks_and_lists(settings: Settings, tmp_path: Path) -> None:
    fresh = settings.model_copy(update={"topic_prefix": f"command-{settings.topic_prefix}"})
    environment = environment_of(fresh)
    result = run_onibus("topics", "check", folder=tmp_path, environment=environment)
    assert result.stdout.strip() == f"missing: {', '.join(topic.name for topic in topic_table(fresh))}"
    assert the_one_line(result).endswith("; create missing ones with: onibus topics create")

    created = run_onibus("topics", "create", "--json", folder=tmp_path, environment=environment)
    assert json.loads(created.stdout)["created"] == [topic.name for topic in topic_table(fresh)]
    assert run_onibus("topics", "create", folder=tmp_path, environment=environment).returncode == 0
    assert run_onibus("topics", "check", folder=tmp_path, environment=environment).returncode == 0
    rows = json.loads(run_onibus("topics", "list", "--json", folder=tmp_path, environment=environment).stdout)
    assert [row["name"] for row in rows] == [topic.name for topic in topic_table(fresh)]
    assert all(row["exists"] and row["differences"] == [] for row in rows)
    shown = run_onibus("topics", "list", folder=tmp_path, environment=environment)
    names = TopicNames(fresh.topic_prefix)
    kept = {name: re.search(rf"{re.escape(name)}[^\w-].*", shown.stdout) for name in vars(names).values()}
    cells = {name: [cell.strip() for cell in row[0].split("│")] for name, row in kept.items() if row}
    assert cells[names.annotations][3:5] == ["none", "every answer, kept forever"], "its retention is -1"
    assert cells[names.reward_updates][3] == "none"
    assert cells[names.captions][3] == "delete after 7 days"
    assert cells[names.labels][3] == "compact"
