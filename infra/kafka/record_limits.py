"""The largest record that a topic accepts: its ``max.message.bytes``, by default the broker's setting."""

from __future__ import annotations

from collections.abc import Collection

from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError

from onibus.infra.kafka import clients
from onibus.infra.settings import Settings

CLIENTS_LARGEST = 1_048_576
"""The largest record that our clients send."""
OVERHEAD_BYTES = 1_024
"""More than a record takes up in its batch besides key, value and headers."""
_NAME = "max.message.bytes"


def largest_values(settings: Settings, topics: Collection[str]) -> dict[str, int]:
    """By topic, the bytes that a record's key, value and headers may have; if unknown, the clients' limit.

    Raises:
        OnibusError: the cluster cannot be reached.
    """
    found = dict.fromkeys(topics, CLIENTS_LARGEST - OVERHEAD_BYTES)
    with clients.admin(settings) as client:
        for topic in topics:
            wanted = [ConfigResource(ConfigResourceType.TOPIC, topic, {_NAME: None})]
            try:
                answer = client.describe_configs(wanted, config_filter="all")["topic"]
                limit = int(answer[topic][_NAME]["value"])
            except (KafkaError, KeyError, TypeError, ValueError):
                continue  # this user may not describe it, and need not
            found[topic] = min(CLIENTS_LARGEST, limit) - OVERHEAD_BYTES
    return found
