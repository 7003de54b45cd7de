"""The batches of an annotator on their way to the log: one at a time, each a transaction in a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from kafka import TopicPartition
from kafka.structs import ConsumerGroupMetadata, OffsetAndMetadata

from onibus.consumers.annotator.batch import Batch
from onibus.consumers.annotator.decisions import Annotator
from onibus.consumers.annotator.pacing import Pacing
from onibus.infra.kafka.transactions import InThread, TransactionWriter

_CAPTIONS_PER_TRANSACTION = 1_000
_OFFSETS_EVERY_SECONDS = 1.0
"""How often offsets are committed when there is nothing else to write."""


class _UnderWay(NamedTuple):
    """A batch that is being written."""

    batch: Batch
    transaction: InThread[None]


class BatchSender:
    """Puts together what has been answered, and writes it when it is worth a transaction.

    Args:
        annotator: whose batches they are; it is told how each of them ended.
        writer: open whenever :meth:`begin` is called.
        captions_topic: full name of the topic whose offsets are committed.
        on_end: called in another thread when a transaction has ended, in whatever way.
        further_mark: what is appended to the metadata of the offset of a partition.
    """

    def __init__(
        self,
        annotator: Annotator,
        writer: TransactionWriter,
        captions_topic: str,
        on_end: Callable[[], None] = lambda: None,
        further_mark: Callable[[int], str] = lambda _: "",
    ) -> None:
        self._further_mark = further_mark
        self._annotator, self._writer = annotator, writer
        self._captions_topic, self._on_end = captions_topic, on_end
        self._pacing = Pacing()
        self._offsets_due = 0.0
        self._current: _UnderWay | None = None

    @property
    def is_under_way(self) -> bool:
        """Whether a batch has begun to be written whose end has not been asked for."""
        return self._current is not None

    @property
    def seconds(self) -> float:
        """How long ago that one began; 0 if there is none."""
        return 0.0 if self._current is None else self._current.transaction.seconds

    @property
    def is_over(self) -> bool:
        """Whether there is one whose transaction has ended: :meth:`end` returns at once."""
        return self._current is not None and self._current.transaction.is_over

    @property
    def is_worthwhile(self) -> bool:
        """Whether there is something to write and the last transaction is long enough ago for it."""
        finished = self._annotator.finished
        return self._annotator.has_finished and self._pacing.is_due(finished, time.monotonic())

    @property
    def is_due(self) -> bool:
        """Whether one should begin now, if only for the offsets."""
        return not self.is_under_way and (self.is_worthwhile or time.monotonic() > self._offsets_due)

    def begin(self, member: ConsumerGroupMetadata | None) -> bool:
        """Put a batch together and begin to write it; whether there is one.

        Args:
            member: who we are to the group; None in a rebalance, for whose end what is finished waits.

        Raises:
            RegistryError: records cannot be encoded now; nothing has changed.
        """
        if member is None:
            return False
        now = time.monotonic()
        self._offsets_due = now + _OFFSETS_EVERY_SECONDS
        batch = self._annotator.batch(_CAPTIONS_PER_TRANSACTION, time.time_ns() // 1000)
        if batch is None:
            return False
        self._pacing.began(len(batch.captions), now)
        offsets = {
            TopicPartition(self._captions_topic, p): OffsetAndMetadata(
                offset, batch.marks.get(p, "") + self._further_mark(p), -1
            )
            for p, offset in batch.offsets.items()
        }
        transaction = self._writer.write(batch.records, offsets, member, self._on_end)
        self._current = _UnderWay(batch, transaction)
        return True

    def ends_well_within(self, seconds: float) -> bool:
        """Wait so long for the one under way; whether it is committed by then."""
        return self._current is not None and self._current.transaction.succeeds_within(seconds)

    def end(self, stopping: threading.Event) -> Batch:
        """Wait for the end of the one under way, and have the annotator count on it; what was written.

        Raises:
            TransactionFailedError: it was not committed, or no one knows; :meth:`give_up` is to follow.
        """
        assert self._current is not None
        self._current.transaction.result(stopping)
        batch, self._current = self._current.batch, None
        self._annotator.committed(batch)
        return batch

    def give_up(self) -> bool:
        """Count on nothing of the one under way; whether there was one. Its answers are kept."""
        if self._current is None:
            return False
        batch, self._current = self._current.batch, None
        self._annotator.failed(batch)
        return True
