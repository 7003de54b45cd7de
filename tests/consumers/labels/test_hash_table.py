"""The hash table: agrees with a dict for any input, also while another thread reads."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onibus.consumers.labels.hash_table import LabelStore

SOME_IDS = st.integers(-(2**63), 2**63 - 1).filter(bool)
CROWDED_IDS = st.integers(1, 60).map(lambda n: n * 1024)  # all in one row at first
CHANGES = st.lists(
    st.lists(st.tuples(SOME_IDS | CROWDED_IDS, st.integers(0, 6)), min_size=1, max_size=40), max_size=20
)


@settings(max_examples=100, deadline=None)
@given(CHANGES)
def test_agrees_with_a_dict_after_any_changes(changes: list[list[tuple[int, int]]]) -> None:
    store, expected = LabelStore(), dict[int, int]()
    for batch in changes:
        ids, values = zip(*batch, strict=True)
        store.set(np.array(ids, np.int64), np.array(values, np.uint8))
        expected.update(batch)
    wanted = np.array([0, 7, *expected], np.int64)
    assert store.get(wanted).tolist() == [0, expected.get(7, 0), *expected.values()]
    assert len(store) == sum(value != 0 for value in expected.values())


def test_keeps_every_label_through_growth_and_any_shape_of_query() -> None:
    rng = np.random.default_rng(1)
    ids = np.unique(rng.integers(1, 2**62, 100_000))
    values = rng.integers(1, 7, ids.size).astype(np.uint8)
    store = LabelStore()
    for start in range(0, ids.size, 999):
        store.set(ids[start : start + 999], values[start : start + 999])
    assert (store.get(ids) == values).all()
    assert store.get(ids[:6000].reshape(2, 3, 1000)).shape == (2, 3, 1000)
    assert store.get(ids[:0]).shape == (0,)
    assert not store.get(ids + 2**62).any()
    assert len(store) == ids.size


def test_the_last_value_of_a_repeated_id_in_a_batch_counts() -> None:
    store = LabelStore()
    store.set(np.array([5, 6, 5], np.int64), np.array([1, 2, 3], np.uint8))
    assert store.get(np.array([5, 6], np.int64)).tolist() == [3, 2]
    store.set(np.array([5, 5], np.int64), np.array([2, 0], np.uint8))
    assert store.get(np.array([5, 6], np.int64)).tolist() == [0, 2]


def test_withdrawn_ids_are_removed_when_the_table_grows() -> None:
    store = LabelStore()
    for round_number in range(200):  # were they kept, the table would have to hold 200,000
        ids = np.arange(1, 1001, dtype=np.int64) + 1000 * round_number
        store.set(ids, np.ones(1000, np.uint8))
        store.set(ids, np.zeros(1000, np.uint8))
    assert len(store) == 0
    assert store.nbytes < 1_000_000


def test_the_id_of_no_caption_takes_no_label() -> None:
    with pytest.raises(ValueError, match="no caption"):
        LabelStore().set(np.array([3, 0], np.int64), np.array([1, 1], np.uint8))


def test_a_reader_never_sees_another_ids_value_nor_loses_a_label_it_has_seen() -> None:
    store, ids = LabelStore(), np.arange(1, 60_001, dtype=np.int64)
    rightful = (ids % 6 + 1).astype(np.uint8)
    done, wrong = threading.Event(), list[str]()

    def read() -> None:
        seen = np.zeros(ids.size, np.bool_)
        while not done.is_set():
            values = store.get(ids)
            if ((values != 0) & (values != rightful)).any():
                wrong.append("another id's value")
            if (seen & (values == 0)).any():
                wrong.append("a label vanished")
            seen |= values != 0

    reader = threading.Thread(target=read)
    reader.start()
    for start in range(0, ids.size, 100):
        store.set(ids[start : start + 100], rightful[start : start + 100])
    done.set()
    reader.join()
    assert not wrong
    assert (store.get(ids) == rightful).all()
