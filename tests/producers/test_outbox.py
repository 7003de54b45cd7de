"""The outbox is first in first out, never above its bounds, and never makes the sender wait."""

from __future__ import annotations

import threading
import time
from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from producers.outbox import Outbox, Outgoing
from schemas.records import CaptionObserved


def outgoing(size: int) -> Outgoing:
    record = CaptionObserved("text", "score", "run", 0, 0, 0, 1, -1, 0)
    return Outgoing(record, bytes(16), size, lambda: None)


@given(st.lists(st.one_of(st.just(None), st.integers(1, 50)), max_size=80))
def test_it_is_a_queue_within_its_bounds(moves: list[int | None]) -> None:
    outbox, model = Outbox(records=5, size=100), deque[Outgoing]()
    for size in moves:
        if size is None:
            assert outbox.take(timeout=0.0) is (model.popleft() if model else None)
        else:
            record = outgoing(size)
            fits = len(model) < 5 and sum(o.size for o in model) + size <= 100
            assert outbox.put(record) is fits
            if fits:
                model.append(record)
        assert len(outbox) == len(model)


def test_a_full_one_refuses_at_once() -> None:
    outbox = Outbox(records=1, size=100)
    outbox.put(outgoing(1))
    before = time.monotonic()
    assert not any(outbox.put(outgoing(1)) for _ in range(1000))
    assert time.monotonic() - before < 1.0


def test_a_closed_one_takes_nothing_and_gives_what_it_has() -> None:
    outbox = Outbox(records=5, size=100)
    outbox.put(outgoing(1))
    outbox.close()
    assert not outbox.put(outgoing(1))
    assert outbox.take(timeout=5.0) is not None
    assert outbox.take(timeout=60.0) is None, "and does not wait for what cannot come"


def test_a_waiting_taker_gets_a_record_as_soon_as_it_is_there() -> None:
    outbox, record = Outbox(records=5, size=100), outgoing(1)
    taken: list[Outgoing | None] = []
    taker = threading.Thread(target=lambda: taken.append(outbox.take(timeout=60.0)))
    taker.start()
    outbox.put(record)
    taker.join(10.0)
    assert taken == [record]
