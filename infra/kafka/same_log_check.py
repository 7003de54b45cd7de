"""Marks beside positions by which a restarted reader knows that a topic is still the same log.

An offset says nothing of the log that it was taken from. After a disk was restored, or the topic truncated or
created anew, a committed offset lies beyond the end, or, once the log has grown past it, in the midst of
captions that were never read. So the last record that was read is named beside the offset.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import NamedTuple

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from kafka.structs import OffsetAndMetadata

from onibus.infra.kafka import clients
from onibus.infra.settings import Settings

_KEY_BYTES = 8
_CHECK_SECONDS = 1.0
_FETCH_BYTES = 16 * 1024


class Mark(NamedTuple):
    """A record that was read: its offset, and the beginning of its key, or all of it."""

    offset: int
    key: bytes

    @classmethod
    def of(cls, offset: int, key: bytes | None) -> Mark:
        """The mark of this record."""
        return cls(offset, (key or b"")[:_KEY_BYTES])

    @classmethod
    def parse(cls, text: str) -> Mark | None:
        """The mark that :meth:`text` wrote; None if it is not one, as with offsets of an older program.

        After a semicolon others may have added what is theirs.
        """
        offset, colon, key = text.partition(";")[0].partition(":")
        try:
            return cls(int(offset), bytes.fromhex(key)) if colon else None
        except ValueError:
            return None

    def text(self) -> str:
        """As it stands in a committed offset's metadata."""
        return f"{self.offset}:{self.key.hex()}"


class MarkCheck:
    """Looks whether the records that marks name are on the log; connected once there is one to look for."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._consumer: KafkaConsumer | None = None

    def on_log(
        self, committed: Mapping[TopicPartition, OffsetAndMetadata], ends: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, bool]:
        """Whether each committed offset is of the log as it is now; what cannot be said soon is left out.

        Args:
            ends: of the same partitions, transactions that are open included.

        Raises:
            KafkaError: the cluster does not answer.
        """
        found: dict[TopicPartition, bool] = {}
        marks: dict[TopicPartition, Mark] = {}
        for tp, at in committed.items():
            mark = Mark.parse(at.metadata or "")
            if at.offset > ends[tp] or (mark is not None and mark.offset >= ends[tp]):
                found[tp] = False
            elif mark is None:
                found[tp] = True  # as far as anyone can tell
            else:
                marks[tp] = mark
        if marks:
            found |= self._compare(marks)
        return found

    def close(self) -> None:
        """Close the connection."""
        if self._consumer is not None:
            self._consumer.close(timeout_ms=1_000)

    def _compare(self, marks: Mapping[TopicPartition, Mark]) -> dict[TopicPartition, bool]:
        if self._consumer is None:
            self._consumer = clients.consumer(
                self._settings, max_partition_fetch_bytes=_FETCH_BYTES, isolation_level="read_uncommitted"
            )
        reader = self._consumer
        starts = reader.beginning_offsets(list(marks))
        found = {tp: True for tp, mark in marks.items() if mark.offset < starts[tp]}  # deleted by retention
        missing = {tp: mark for tp, mark in marks.items() if tp not in found}
        reader.assign(list(missing))
        for tp, mark in missing.items():
            reader.seek(tp, mark.offset)
        deadline = time.monotonic() + _CHECK_SECONDS
        while missing and time.monotonic() < deadline:
            for tp, records in reader.poll(timeout_ms=100).items():
                if tp in missing:
                    found[tp] = _is(records[0], missing.pop(tp))
                    reader.pause(tp)
        reader.unsubscribe()  # forgets positions and pauses: the next call may be about the same partitions
        return found


def _is(record: ConsumerRecord, mark: Mark) -> bool:
    return record.offset == mark.offset and (record.key or b"").startswith(mark.key)
