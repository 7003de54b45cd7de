"""Topics in one Avro file: recorded from a cluster, and written to another with the same offsets.

``python -m tests.recorded.topics BOOTSTRAP_SERVERS FILE`` records the topics under ``onibus.``: the last
episodes, the first version of each reward model, and everything else.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import fastavro
from kafka import KafkaConsumer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType

from onibus.infra.kafka import clients
from onibus.infra.settings import Settings
from onibus.schemas.codec import SingleObjectCodec
from onibus.schemas.records import RewardModelChunk, RewardUpdate

PREFIX = "onibus."
EPISODES = 40
SCHEMA = {
    "type": "record",
    "name": "RecordedRecord",
    "fields": [
        {"name": "topic", "type": "string", "doc": "without its prefix"},
        {"name": "partition", "type": "int"},
        {"name": "offset", "type": "long"},
        {"name": "timestamp", "type": "long", "doc": "milliseconds since 1970"},
        {"name": "key", "type": ["null", "bytes"]},
        {"name": "value", "type": ["null", "bytes"]},
    ],
}

Record = dict[str, Any]


def record(bootstrap_servers: str, file: Path) -> None:
    """Keep what the cluster holds."""
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap_servers, isolation_level="read_committed", enable_auto_commit=False
    )
    topics = sorted(name for name in consumer.topics() if name.startswith(PREFIX))
    kept = [r for topic in topics for r in _chosen(topic.removeprefix(PREFIX), list(_read(consumer, topic)))]
    consumer.close()
    with file.open("wb") as out:
        fastavro.writer(out, fastavro.parse_schema(SCHEMA), kept, codec="deflate")


def publish(settings: Settings, file: Path) -> None:
    """Write a recording to the topics of ``settings``, which are empty: same partitions, offsets and times.

    What a transaction wrote is written in one again, for its end takes an offset. A topic recorded in part
    begins at offset 0.
    """
    with file.open("rb") as source:
        records: list[Record] = list(fastavro.reader(source))
    topics = sorted({f"{settings.topic_prefix}{r['topic']}" for r in records})
    _keep_times(settings, topics)
    producer = clients.transactional_producer(settings, f"{settings.topic_prefix}recorded")
    producer.init_transactions()
    for run in _transactions(records):
        producer.begin_transaction()
        for r in run:
            producer.send(
                f"{settings.topic_prefix}{r['topic']}",
                key=r["key"],
                value=r["value"],
                partition=r["partition"],
                timestamp_ms=r["timestamp"],
            )
        producer.commit_transaction()
    producer.close()


def _read(consumer: KafkaConsumer, topic: str) -> Iterator[Record]:
    partitions = [TopicPartition(topic, p) for p in sorted(consumer.partitions_for_topic(topic))]
    consumer.assign(partitions)
    consumer.seek_to_beginning(*partitions)
    ends = consumer.end_offsets(partitions)
    while any(consumer.position(partition) < ends[partition] for partition in partitions):
        for partition, records in consumer.poll(1_000).items():
            for r in records:
                yield {
                    "topic": topic.removeprefix(PREFIX),
                    "partition": partition.partition,
                    "offset": r.offset,
                    "timestamp": r.timestamp,
                    "key": r.key,
                    "value": r.value,
                }


def _chosen(topic: str, records: list[Record]) -> list[Record]:
    if topic == "episodes":
        return records[-EPISODES:]
    if topic in ("reward-models", "reward-updates"):
        kind = RewardModelChunk if topic == "reward-models" else RewardUpdate
        return [r for r in records if SingleObjectCodec().decode(kind, r["value"]).version == 1]
    return records


def _transactions(records: Iterable[Record]) -> Iterator[list[Record]]:
    """Records of one partition whose offsets follow each other."""
    by_partition = sorted(records, key=lambda r: (r["topic"], r["partition"], r["offset"]))
    for _, group in itertools.groupby(
        enumerate(by_partition),
        key=lambda pair: (pair[1]["topic"], pair[1]["partition"], pair[1]["offset"] - pair[0]),
    ):
        yield [r for _, r in group]


def _keep_times(settings: Settings, topics: list[str]) -> None:
    own_times = {"message.timestamp.type": "CreateTime", "retention.ms": "-1"}
    with clients.admin(settings) as admin:
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, own_times) for topic in topics])


if __name__ == "__main__":
    record(sys.argv[1], Path(sys.argv[2]))
