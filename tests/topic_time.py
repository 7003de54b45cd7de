"""Topics whose records keep their producers' time, as those of an older onibus do."""

from __future__ import annotations

from kafka.admin import ConfigResource, ConfigResourceType

from onibus.infra.kafka.clients import admin
from onibus.infra.kafka.topic_admin import check_topics
from onibus.infra.settings import Settings
from tests.waiting import wait_until


def keep_producers_time(settings: Settings, topic: str) -> None:
    """Set this topic, by its full name, so."""
    with admin(settings) as client:
        client.alter_configs(
            [ConfigResource(ConfigResourceType.TOPIC, topic, {"message.timestamp.type": "CreateTime"})]
        )
    wait_until(lambda: any("CreateTime" in line for line in check_topics(settings)), 30, "the configuration")
