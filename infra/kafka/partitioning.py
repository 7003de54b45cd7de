"""How many partitions captions and labels were written for, to be compared with the setting.

A caption's partition is its id modulo the setting ``partitions``, not modulo the number that the topic has,
so an operator who adds partitions moves nothing. A different setting would separate captions from their
labels, and they would be asked about and paid for again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from onibus.infra.kafka import clients
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.settings import Settings
from onibus.schemas.ids import CAPTION_ID_BYTES, caption_partition

_SAMPLE_SECONDS = 2.0
_SAMPLE_PER_POLL = 500
_FEWEST_KEYS = 10
_MOST = 1_000
_FEWEST_LABELS = 100
"""Per partition: with this many labels, no partition is empty by chance."""


def wide_topics(settings: Settings) -> list[str]:
    """The topics that share a caption's partition."""
    names = TopicNames(settings.topic_prefix)
    return [names.captions, names.labels, names.annotations]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the data show about the number of partitions.

    Attributes:
        used: number of partitions up to the last one that holds data; 0 without data.
        written_for: the number that captions were assigned by; None if there are too few to determine it.
    """

    used: int
    written_for: int | None


def partition_evidence(settings: Settings, counts: Mapping[str, int]) -> Evidence:
    """Examine what is on the topics.

    Args:
        counts: number of partitions of each of :func:`wide_topics` that this user may describe.

    Raises:
        OnibusError: the cluster cannot be reached.
    """
    names = TopicNames(settings.topic_prefix)
    partitions = [TopicPartition(topic, n) for topic, count in counts.items() for n in range(count)]
    with clients.consumer(settings, max_poll_records=_SAMPLE_PER_POLL) as reader:
        ends = _ends(reader, partitions)
        used = max((tp.partition + 1 for tp, end in ends.items() if end), default=0)
        keys = _oldest_keys(reader, [tp for tp, end in ends.items() if tp.topic == names.captions and end])
    written_for = None
    if len(keys) >= _FEWEST_KEYS:
        fitting = (n for n in range(used, _MOST + 1) if all(caption_partition(k, n) == p for p, k in keys))
        written_for = next(fitting, None)
    elif not keys:  # all deleted by retention, or not readable by this user
        labels = sum(end for tp, end in ends.items() if tp.topic == names.labels)
        written_for = used if labels >= _FEWEST_LABELS * settings.partitions else None
    return Evidence(used, written_for)


def _ends(reader: KafkaConsumer, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
    """End offsets; empty while one of the topics is being deleted or created."""
    try:
        ends: dict[TopicPartition, int] = reader.end_offsets(partitions)
    except KafkaError:
        return {}
    return ends


def _oldest_keys(reader: KafkaConsumer, captions: list[TopicPartition]) -> set[tuple[int, bytes]]:
    """Partition and id of some of the oldest captions; empty if this user may not read them."""
    keys: set[tuple[int, bytes]] = set()
    if not captions:
        return keys
    reader.assign(captions)
    reader.seek_to_beginning(*captions)
    deadline = time.monotonic() + _SAMPLE_SECONDS
    while len(keys) < _SAMPLE_PER_POLL and time.monotonic() < deadline:
        try:
            polled = reader.poll(timeout_ms=200)
        except KafkaError:
            return set()
        if not polled and keys:
            break
        keys |= {(r.partition, r.key) for batch in polled.values() for r in batch if _is_id(r.key)}
    return keys


def _is_id(key: bytes | None) -> bool:
    return key is not None and len(key) == CAPTION_ID_BYTES
