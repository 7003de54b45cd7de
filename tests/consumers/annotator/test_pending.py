"""The pending stack: newest first, bounded, and nothing owed is ever forgotten."""

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from onibus.consumers.annotator.pending import OwedRange, Pending, PendingCaption


def caption(offset: int, partition: int = 0, name: str | None = None) -> PendingCaption:
    name = name or f"c{offset}"
    return PendingCaption(partition, offset, name.encode(), name, offset, name.encode())


def filled(captions: int, **limits: int) -> Pending:
    pending = Pending(**limits)
    pending.assign(0, 0, 0)
    for offset in range(captions):
        pending.offer(caption(offset))
        pending.advance(0, offset + 1)
    return pending


def test_the_newest_come_first() -> None:
    pending = filled(5)
    assert [c.offset for c in pending.take(2)] == [4, 3]
    assert pending.low_water() == {0: 0}


def test_a_caption_seen_again_is_the_newest_and_owed_from_where_it_was_first_seen() -> None:
    pending = filled(5)
    assert pending.touch(0, b"c0")
    first, *_ = pending.take(1)
    assert first.offset == 0
    assert pending.touch(0, b"c0")  # under way
    pending.settle([first])
    assert not pending.touch(0, b"c0")
    assert pending.low_water() == {0: 1}


def test_what_falls_off_is_owed_on_the_log_and_holds_the_low_water_mark() -> None:
    pending = filled(10, capacity=4)
    assert (len(pending), pending.owed_offsets) == (4, 6)
    pending.settle(pending.take(4))
    assert pending.low_water() == {0: 0}
    assert pending.next_range(2) == OwedRange(0, 4, 6)
    pending.was_read_back(OwedRange(0, 4, 6))
    assert pending.next_range(100) == OwedRange(0, 0, 4)
    pending.was_read_back(OwedRange(0, 0, 4))
    assert pending.next_range(2) is None
    assert pending.low_water() == {0: 10}


def test_bytes_bound_the_stack_too() -> None:
    pending = Pending(capacity_bytes=100)
    pending.assign(0, 0, 0)
    for offset in range(10):
        pending.offer(caption(offset, name="x" * 30 + str(offset)))
    assert len(pending) == 3


def test_a_revoked_partition_leaves_nothing_behind() -> None:
    pending = filled(6, capacity=4)
    pending.assign(1, 50, 50)
    pending.offer(caption(50, 1))
    pending.advance(1, 51)
    pending.take(2)
    pending.revoke(0)
    assert (len(pending), pending.taken, pending.owed_offsets) == (0, 1, 0)
    assert pending.low_water() == {1: 50}


def test_of_a_backlog_the_end_is_read_first_and_the_rest_is_owed() -> None:
    pending = Pending(newest=10)
    assert pending.assign(0, 40, 100) == 90
    assert pending.low_water() == {0: 40}
    assert pending.next_range(20) == OwedRange(0, 70, 90)
    assert [pending.was_read(0, offset) for offset in (89, 90)] == [False, True]


@dataclass
class Log:
    """One partition as it is: names by offset, and which of them have a label."""

    names: list[int] = field(default_factory=list)
    labelled: set[int] = field(default_factory=set)


class AnyHistory(RuleBasedStateMachine):
    """Captions come, are taken, settled and read back in any order, with limits that hurt."""

    @initialize(
        capacity=st.integers(1, 6),
        ranges=st.integers(1, 4),
        newest=st.integers(1, 4),
        backlog=st.lists(st.integers(0, 25), max_size=12),
    )
    def begin(self, capacity: int, ranges: int, newest: int, backlog: list[int]) -> None:
        self.capacity, self.ranges = capacity, ranges
        self.pending = Pending(capacity=capacity, ranges=ranges, newest=newest)
        self.logs = [Log(list(backlog)), Log()]
        for partition, log in enumerate(self.logs):
            first = self.pending.assign(partition, 0, len(log.names))
            assert len(log.names) - first <= newest
            for offset in range(first, len(log.names)):
                self._see(partition, offset, read_back=False)
            self.pending.advance(partition, len(log.names))
        self.under_way: list[PendingCaption] = []

    @rule(partition=st.integers(0, 1), names=st.lists(st.integers(0, 25), max_size=8))
    def read_on(self, partition: int, names: list[int]) -> None:
        log = self.logs[partition]
        for name in names:
            log.names.append(name)
            self._see(partition, len(log.names) - 1, read_back=False)
        self.pending.advance(partition, len(log.names))

    @rule(most=st.integers(1, 5))
    def take(self, most: int) -> None:
        self.under_way += self.pending.take(most)

    @rule(share=st.integers(0, 3))
    def settle(self, share: int) -> None:
        done, self.under_way = self.under_way[:share], self.under_way[share:]
        for one in done:
            self.logs[one.partition].labelled.add(int(one.text))
        self.pending.settle(done)

    @rule(most=st.integers(1, 10))
    def read_back(self, most: int) -> None:
        if len(self.pending) or (owed := self.pending.next_range(most)) is None:
            return
        assert 0 < owed.end - owed.start <= most
        for offset in range(owed.start, owed.end):
            self._see(owed.partition, offset, read_back=True)
        self.pending.was_read_back(owed)

    @invariant()
    def nothing_owed_lies_below_the_low_water_mark(self) -> None:
        for partition, mark in self.pending.low_water().items() if hasattr(self, "pending") else ():
            log = self.logs[partition]
            for name in set(log.names[:mark]):
                first_missing = name not in log.labelled and name not in log.names[mark:]
                assert not first_missing, f"caption {name} is below {mark} and has no label"

    @invariant()
    def the_stack_and_the_ranges_are_bounded(self) -> None:
        if hasattr(self, "pending"):
            # reading back happens on an empty stack, and may fill it beyond its capacity once
            assert len(self.pending) <= max(self.capacity, 10)
            assert all(len(p.starts) <= self.ranges for p in self.pending._partitions.values())

    def teardown(self) -> None:
        """Left alone, everything gets its label and every offset is committed."""
        if not hasattr(self, "pending"):
            return
        for _ in range(1_000):
            self.take(5)
            self.settle(len(self.under_way))
            self.read_back(7)
        for partition, log in enumerate(self.logs):
            assert log.labelled == set(log.names)
            assert self.pending.low_water()[partition] == len(log.names)

    def _see(self, partition: int, offset: int, read_back: bool) -> None:
        name = self.logs[partition].names[offset]
        key = str(name).encode()
        if name in self.logs[partition].labelled or self.pending.touch(partition, key):
            return
        offer = self.pending.offer_old if read_back else self.pending.offer
        offer(PendingCaption(partition, offset, key, str(name), 0, key))


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
