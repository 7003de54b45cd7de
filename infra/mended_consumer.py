"""kafka-python's consumer with what version 3.0.12 lacks: a partition that is resumed is read on."""

from __future__ import annotations

from typing import Any

from kafka import KafkaConsumer


class MendedConsumer(KafkaConsumer):  # type: ignore[misc]  # kafka-python is not typed
    """Takes parked records of a resumed partition up again, which kafka-python may leave parked for ever.

    Its fetcher parks what it has unpacked of a paused partition, and fetches nothing of a partition with
    parked records. It takes them up when no others are being given out, of which ``None`` is its sign; but
    what was given out to its end keeps that place until another fetch takes it. If the partition with parked
    records is the only one that anything comes for, that is never.
    """

    def poll(self, *arguments: Any, **named: Any) -> Any:
        """As KafkaConsumer's."""
        if not self._fetcher._next_partition_records:  # given out to its end, or None
            self._fetcher._next_partition_records = None
        return super().poll(*arguments, **named)
