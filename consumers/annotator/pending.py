"""What an annotator owes: newest captions on a bounded stack, older ones as offset ranges of the log.

The policy needs labels for what it sees now, but a log is read oldest first. So captions are pushed on
a stack and taken from its top. What falls off the bottom is remembered as ranges of offsets only: the
log itself is the overflow and is read back once the stack is empty. A long backlog is such a range from the
start: reading begins near its end. The low-water mark of a partition, the offset to commit, lies at or below
everything still owed there.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple


class PendingCaption(NamedTuple):
    """One caption that needs labels under ``specs``. ``offset`` is the first of its records that is owed."""

    partition: int
    offset: int
    caption_id: bytes
    text: str
    observed_at: int
    value: bytes
    specs: frozenset[bytes] = frozenset()

    @property
    def key(self) -> tuple[int, bytes]:
        """What it is found by."""
        return self.partition, self.caption_id


class OwedRange(NamedTuple):
    """Offsets ``start`` to ``end`` (exclusive) of a partition, in which owed captions stand."""

    partition: int
    start: int
    end: int


@dataclass(slots=True)
class _Partition:
    first: int  # to be read: what lies before and is owed has never been
    position: int
    starts: list[int]  # of the owed ranges, ascending, apart from each other
    ends: list[int]


class Pending:
    """The pending stack of the partitions that an annotator owns.

    Args:
        capacity: captions on the stack; more push the oldest off.
        capacity_bytes: bytes of their records.
        ranges: owed ranges that are kept apart in one partition; with more, the two closest become
            one, which only means reading more offsets back.
        newest: offsets at the end of a partition that are read before its backlog.

    Captions taken and not yet settled are not bounded here: the caller takes no more than it can work on.
    """

    def __init__(
        self,
        capacity: int = 20_000,
        capacity_bytes: int = 64 * 1024 * 1024,
        ranges: int = 64,
        newest: int = 50,
    ) -> None:
        self._capacity, self._capacity_bytes, self._ranges = capacity, capacity_bytes, ranges
        self._newest = newest
        self._stack: OrderedDict[tuple[int, bytes], PendingCaption] = OrderedDict()  # newest last
        self._stack_bytes = 0
        self._taken: dict[tuple[int, bytes], PendingCaption] = {}
        self._partitions: dict[int, _Partition] = {}

    def __len__(self) -> int:
        """Captions on the stack."""
        return len(self._stack)

    @property
    def taken(self) -> int:
        """Captions taken and not yet settled."""
        return len(self._taken)

    @property
    def owed_offsets(self) -> int:
        """Offsets in owed ranges: at least as many as captions pushed off and not read back."""
        return sum(sum(p.ends) - sum(p.starts) for p in self._partitions.values())

    def assign(self, partition: int, position: int, end: int) -> int:
        """Begin with a partition; returns the offset to read from.

        Args:
            position: everything below it is settled.
            end: everything below it is on the log by now.
        """
        first = max(position, end - self._newest)
        self._partitions[partition] = _Partition(first, first, [], [])
        if first > position:
            self._owe(partition, position, first)
        return first

    def was_read(self, partition: int, offset: int) -> bool:
        """Whether this offset, one that is read back, has been read before."""
        return offset >= self._partitions[partition].first

    def revoke(self, partition: int) -> None:
        """Forget a partition and all that was owed there."""
        del self._partitions[partition]
        for key in [key for key in self._stack if key[0] == partition]:
            self._stack_bytes -= len(self._stack.pop(key).value)
        for key in [key for key in self._taken if key[0] == partition]:
            del self._taken[key]

    def advance(self, partition: int, position: int) -> None:
        """Everything below ``position`` has been read: offered, or needs nothing."""
        state = self._partitions[partition]
        state.position = max(state.position, position)

    def touch(self, partition: int, caption_id: bytes) -> bool:
        """Whether this caption is on the stack or taken. If on the stack, it is now the newest."""
        key = (partition, caption_id)
        if key in self._stack:
            self._stack.move_to_end(key)
            return True
        return key in self._taken

    def offer(self, caption: PendingCaption) -> None:
        """Put a caption that :meth:`touch` does not know on top. The oldest may fall off."""
        self._push(caption)
        while len(self._stack) > self._capacity or (
            self._stack_bytes > self._capacity_bytes and len(self._stack) > 1
        ):
            _, oldest = self._stack.popitem(last=False)
            self._stack_bytes -= len(oldest.value)
            self._owe(oldest.partition, oldest.offset, oldest.offset + 1)

    def offer_old(self, caption: PendingCaption) -> None:
        """Put a caption that was read back at the bottom."""
        self._push(caption)
        self._stack.move_to_end(caption.key, last=False)

    def take(self, most: int) -> list[PendingCaption]:
        """Up to ``most`` captions to work on, newest first; they stay owed until settled."""
        captions: list[PendingCaption] = []
        while self._stack and len(captions) < most:
            key, caption = self._stack.popitem()
            self._stack_bytes -= len(caption.value)
            self._taken[key] = caption
            captions.append(caption)
        return captions

    def settle(self, captions: Iterable[PendingCaption]) -> None:
        """Taken captions are no longer owed."""
        for caption in captions:
            del self._taken[caption.key]

    def low_water(self, settled: Iterable[PendingCaption] = ()) -> dict[int, int]:
        """For each partition the offset to commit: the least one owed, or where reading goes on.

        ``settled``: captions that are to count as settled already.
        """
        passed = {caption.key for caption in settled}
        marks = {
            number: min(state.position, state.starts[0]) if state.starts else state.position
            for number, state in self._partitions.items()
        }
        for captions in (self._stack.values(), self._taken.values()):
            for caption in captions:
                if caption.offset < marks[caption.partition] and caption.key not in passed:
                    marks[caption.partition] = caption.offset
        return marks

    def next_range(self, most: int) -> OwedRange | None:
        """What to read back next: the newest ``most`` offsets of the partition that owes most."""
        owing = [(number, p) for number, p in self._partitions.items() if p.starts]
        if not owing:
            return None
        number, state = max(owing, key=lambda item: sum(item[1].ends) - sum(item[1].starts))
        start, end = state.starts[-1], state.ends[-1]
        return OwedRange(number, max(start, end - most), end)

    def was_read_back(self, done: OwedRange) -> None:
        """Everything in this range, one that :meth:`next_range` gave, has been offered or needs nothing."""
        state = self._partitions[done.partition]
        place = bisect_right(state.starts, done.start) - 1
        start, end = state.starts.pop(place), state.ends.pop(place)
        for piece_start, piece_end in ((start, done.start), (done.end, end)):
            if piece_start < piece_end:
                self._owe(done.partition, piece_start, piece_end)

    def _push(self, caption: PendingCaption) -> None:
        self._stack[caption.key] = caption
        self._stack_bytes += len(caption.value)

    def _owe(self, partition: int, start: int, end: int) -> None:
        state = self._partitions[partition]
        place = bisect_right(state.starts, start)
        if place and state.ends[place - 1] >= start:  # touches the range before
            place -= 1
            state.ends[place] = max(state.ends[place], end)
        else:
            state.starts.insert(place, start)
            state.ends.insert(place, end)
        while place + 1 < len(state.starts) and state.starts[place + 1] <= state.ends[place]:
            state.ends[place] = max(state.ends[place], state.ends.pop(place + 1))
            del state.starts[place + 1]
        if len(state.starts) > self._ranges:
            gaps = ((state.starts[i + 1] - state.ends[i], i) for i in range(len(state.starts) - 1))
            (_, closest), *_ = heapq.nsmallest(1, gaps)
            state.ends[closest] = state.ends.pop(closest + 1)
            del state.starts[closest + 1]
