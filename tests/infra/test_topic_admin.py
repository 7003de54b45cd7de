"""Topics: created once, and every difference from the table named."""

from __future__ import annotations

import pytest

from infra.clients import admin, producer, read_all
from infra.errors import OnibusError
from infra.settings import Settings
from infra.topic_admin import check_topics, create_topics, require_topics
from infra.topics import TopicNames, topic_table


def test_created_topics_are_as_the_table_says(settings: Settings) -> None:
    assert check_topics(settings) == []
    require_topics(settings)


def test_creating_again_creates_nothing(settings: Settings) -> None:
    assert create_topics(settings) == []


def test_only_what_is_missing_is_created(settings: Settings) -> None:
    labels = TopicNames(settings.topic_prefix).labels
    with admin(settings) as client:
        client.delete_topics([labels])
    assert check_topics(settings) == [f"{labels} is missing"]
    assert create_topics(settings) == [labels]
