"""How far a consumer group is behind: end offsets minus committed offsets."""

from __future__ import annotations

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from infra.clients import consumer
from infra.settings import Settings


class ConsumerLag:
    """Asks the cluster for the lag of ``group`` on ``topic``, without joining the group."""

    def __init__(self, settings: Settings, group: str, topic: str) -> None:
        self._reader: KafkaConsumer = consumer(settings, group_id=group)
        self._partitions = [TopicPartition(topic, n) for n in self._reader.partitions_for_topic(topic) or ()]

    def by_partition(self) -> dict[int, int] | None:
        """Records behind, by partition; None when the cluster does not answer just now."""
        try:
            ends = self._reader.end_offsets(self._partitions)
            starts = self._reader.beginning_offsets(self._partitions)
            return {
                p.partition: max(0, ends[p] - (self._reader.committed(p) or starts[p]))
                for p in self._partitions
            }
        except KafkaError:
            return None

    def total(self) -> int | None:
        """Records behind in all, transaction markers included; None when the cluster does not answer."""
        by_partition = self.by_partition()
        return None if by_partition is None else sum(by_partition.values())

    def close(self) -> None:
        """Close the connection."""
        self._reader.close()
