"""The outbox is first in first out, never above its bounds, and never makes the sender wait."""

from __future__ import annotations

import threading
import time
from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from onibus.producers.publishing.outbox import BURST_BYTES, BURST_RECORDS, Outbox, Outgoing
from onibus.schemas.records import CaptionObserved


def outgoing(size: int = 1, patience: float = 0.0) -> Outgoing:
    record = CaptionObserved("text", "score", "run", 0, 0, 0, 1, -1, 0)
    return Outgoing(record, bytes(16), size, patience, lambda: None)


@given(st.lists(st.one_of(st.just(None), st.integers(1, 50)), max_size=80))
def test_it_is_a_queue_within_its_bounds(moves: list[int | None]) -> None:
    outbox, model = Outbox(records=5, size=100), deque[Outgoing]()
    for size in moves:
        if size is None:
            assert outbox.take(timeout=0.0) == list(model)
            model.clear()
        else:
            record = outgoing(size)
            fits = len(model) < 5 and sum(o.size for o in model) + size <= 100
            assert outbox.put(record) is fits
            if fits:
                model.append(record)
        assert len(outbox) == len(model)


@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from(["take", 0.25, 2.0])), max_size=60))
def test_a_burst_leaves_when_its_most_impatient_record_wants_it(
    moves: list[tuple[float, float | str]],
) -> None:
    now, last_burst = 0.0, float("-inf")
    outbox, inside = Outbox(records=100, size=1000, clock=lambda: now), list[Outgoing]()
    for pause, move in moves:
        now += pause
        if isinstance(move, float):
            record = outgoing(patience=move)
            outbox.put(record)
            inside.append(record)
            continue
        due = any(now >= last_burst + record.patience for record in inside)
        assert outbox.take(timeout=0.0) == (inside if due else [])
        if due:
            last_burst, inside = now, []


def test_a_burst_is_bounded_and_the_rest_follows_at_once() -> None:
    outbox = Outbox(records=10_000, size=100 << 20)
    for _ in range(BURST_RECORDS + 1):
        outbox.put(outgoing(patience=60.0))
    assert len(outbox.take(timeout=0.0)) == BURST_RECORDS
    assert len(outbox.take(timeout=0.0)) == 1
    for size in (BURST_BYTES + 1, BURST_BYTES, 1):
        outbox.put(outgoing(size))
    assert [[o.size for o in outbox.take(timeout=0.0)] for _ in range(3)] == [
        [BURST_BYTES + 1],
        [BURST_BYTES],
        [1],
    ]


def test_what_waits_for_company_leaves_at_once_when_hurried() -> None:
    outbox = Outbox(records=5, size=100)
    outbox.put(outgoing())
    assert len(outbox.take(timeout=0.0)) == 1
    outbox.put(outgoing(patience=3600.0))
    assert outbox.take(timeout=0.0) == []
    outbox.hurry()
    assert len(outbox.take(timeout=0.0)) == 1
    outbox.hurry()
    outbox.put(outgoing(patience=3600.0))
    assert outbox.take(timeout=0.0) == [], "hurrying an empty one promises nothing to later records"


def test_a_full_one_refuses_at_once() -> None:
    outbox = Outbox(records=1, size=100)
    outbox.put(outgoing())
    before = time.monotonic()
    assert not any(outbox.put(outgoing()) for _ in range(1000))
    assert time.monotonic() - before < 1.0


def test_a_closed_one_takes_nothing_and_gives_what_it_has() -> None:
    outbox = Outbox(records=5, size=100)
    outbox.put(outgoing())
    outbox.take(timeout=0.0)
    outbox.put(outgoing(patience=3600.0))
    outbox.close()
    assert not outbox.put(outgoing())
    assert len(outbox.take(timeout=5.0)) == 1
    assert outbox.take(timeout=60.0) == [], "and does not wait for what cannot come"


def test_a_waiting_taker_gets_a_record_as_soon_as_it_is_there() -> None:
    outbox, record = Outbox(records=5, size=100), outgoing()
    taken: list[Outgoing] = []
    taker = threading.Thread(target=lambda: taken.extend(outbox.take(timeout=60.0)))
    taker.start()
    outbox.put(record)
    taker.join(10.0)
    assert taken == [record]


def test_a_taker_that_waits_for_a_patient_record_sees_an_impatient_one_come() -> None:
    outbox = Outbox(records=5, size=100)
    outbox.put(outgoing())
    outbox.take(timeout=0.0)
    outbox.put(outgoing(patience=3600.0))
    taken: list[Outgoing] = []
    taker = threading.Thread(target=lambda: taken.extend(outbox.take(timeout=60.0)))
    taker.start()
    outbox.put(outgoing(patience=0.01))
    taker.join(10.0)
    assert len(taken) == 2
