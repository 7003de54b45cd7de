"""How many comparisons a caption has led to is counted from the labels, each pair once."""

from __future__ import annotations

import json
from importlib.resources import files

import numpy as np

from onibus.consumers.annotator.comparison_labels import ComparisonLabels
from onibus.schemas import codec, ids
from onibus.schemas.avro_body import RecordBody
from onibus.schemas.codec import MARKER, schema_fingerprint
from onibus.schemas.records import Label, Verdict

SPEC, OTHER_SPEC = b"compared", b"judging."
LEADER, OTHER = ids.caption_id("leads"), ids.caption_id("another")


def key(number: int, spec: bytes = SPEC) -> bytes:
    return ids.label_key(spec, ids.caption_id(f"pair {number}"))


def label(leader: bytes | None = LEADER, verdict: Verdict = Verdict.FIRST) -> bytes:
    return codec.encode(Label(verdict, 0, 7, 1, 1, "a1", None, leader))


def counts(table: ComparisonLabels) -> list[int]:
    looked_up = np.array([ids.lookup_id(LEADER), ids.lookup_id(OTHER)], np.int64)
    return table.comparisons(SPEC, looked_up).tolist()


def test_each_labelled_pair_counts_once_for_the_caption_that_led_to_it() -> None:
    table = ComparisonLabels(comparing=[SPEC])
    table.apply([key(1), key(2), key(1)], [label(), label(OTHER), label(verdict=Verdict.TIE)])
    assert counts(table) == [1, 1]
    table.apply([key(1), key(3)], [label(verdict=Verdict.SECOND), label()])  # one's own batch, read again
    assert counts(table) == [2, 1]
    assert table.contains(SPEC, ids.caption_id("pair 3"))


def test_of_two_captions_that_led_to_one_pair_the_first_counts_however_the_records_come() -> None:
    together, apart = (ComparisonLabels(comparing=[SPEC]) for _ in range(2))
    together.apply([key(1), key(1)], [label(), label(OTHER)])
    apart.apply([key(1)], [label()])
    apart.apply([key(1)], [label(OTHER)])
    assert counts(together) == counts(apart) == [1, 0]


def test_a_withdrawn_comparison_counts_no_longer_and_counts_again_once_it_is_labelled() -> None:
    table = ComparisonLabels(comparing=[SPEC])
    table.apply([key(1), key(2)], [label(), label()])
    table.apply([key(1), key(9)], [None, None], [LEADER, LEADER])  # of one that has no label nothing is taken
    table.apply([key(8)], [None], [b"no id"])
    assert counts(table) == [1, 0]
    table.apply([key(1)], [label()])
    assert counts(table) == [2, 0]


def test_verdicts_on_one_caption_other_specs_and_what_is_unreadable_count_nothing() -> None:
    table = ComparisonLabels(comparing=[SPEC])
    keys = [key(1), key(2, OTHER_SPEC), b"short", None, key(3)]
    assert table.apply(keys, [label(None), label(), label(), label(), b"junk"]) == 3
    assert counts(table) == [0, 0]
    assert table.count(SPEC) == table.count(OTHER_SPEC) == 1


def test_a_label_of_an_older_onibus_whose_bytes_end_as_if_it_named_a_caption_is_not_misread() -> None:
    older = json.loads((files("onibus.schemas") / "avro" / "archive" / "label.2.avsc").read_text())
    made = Label(Verdict.FIRST, 0, 7, 1, 1, "a" * 14 + "\x02" + "b" * 15, None)
    body = RecordBody(Label).encode(made)[:-1]  # without the branch of the leader
    value = MARKER + schema_fingerprint(older) + body
    table = ComparisonLabels(comparing=[SPEC])
    assert table.apply([key(1), key(2)], [label(), value]) == 0
    assert counts(table) == [1, 0]
