"""The label table as a plain object: bytes of the topic in, verdicts of arrays out."""

import io
from collections.abc import Sequence
from typing import Any

import fastavro
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from onibus.consumers.labels.table import (
    HELPFUL,
    NO_LABEL,
    UNHELPFUL,
    UNSURE,
    VERDICT_CODES,
    LabelTable,
    lookup_ids,
)
from onibus.schemas import codec, ids
from onibus.schemas.avro_body import RecordBody, archived_documents
from onibus.schemas.codec import SingleObjectCodec
from onibus.schemas.records import Label, Verdict

SPEC, OTHER_SPEC = b"spec-one", b"spec-two"


def subject(number: int) -> bytes:
    return ids.caption_id(f"caption {number}")


def value(verdict: Verdict, annotated_at: int = 1_700_000_000_000_000, annotator: str = "a") -> bytes:
    return codec.encode(Label(verdict, 3, 12, 1_600_000_000_000_000, annotated_at, annotator))


def lookups(*numbers: int) -> np.ndarray:
    return np.array([ids.lookup_id(subject(n)) for n in numbers], np.int64)


def verdicts(table: LabelTable, numbers: Sequence[int], spec: bytes = SPEC) -> list[int]:
    return table.verdicts(spec, lookups(*numbers)).tolist()


def test_every_verdict_of_the_schema_is_found_again() -> None:
    table = LabelTable()
    keys = [ids.label_key(SPEC, subject(n)) for n in range(len(Verdict))]
    assert table.apply(keys, [value(v) for v in Verdict]) == 0
    assert verdicts(table, range(len(Verdict))) == list(VERDICT_CODES.values()) == [1, 2, 3, 4, 5, 6]
    assert table.contains(SPEC, subject(0))
    assert not table.contains(SPEC, subject(99))


def test_specs_do_not_mix_and_no_caption_has_no_label() -> None:
    table = LabelTable()
    keys = [ids.label_key(SPEC, subject(1)), ids.label_key(OTHER_SPEC, subject(1))]
    table.apply(keys, [value(Verdict.HELPFUL, 7), value(Verdict.UNHELPFUL, 9)])
    assert verdicts(table, [1]) == [HELPFUL]
    assert verdicts(table, [1], OTHER_SPEC) == [UNHELPFUL]
    assert verdicts(table, [1], b"no spec!") == [NO_LABEL]
    assert table.verdicts(SPEC, np.zeros((2, 3), np.int64)).tolist() == [[0] * 3] * 2
    assert table.specs() == [SPEC, OTHER_SPEC]
    assert (table.newest_annotated_at(SPEC), table.newest_annotated_at(OTHER_SPEC)) == (7, 9)


def test_a_withdrawn_label_leaves_and_may_return() -> None:
    table, key = LabelTable(), ids.label_key(SPEC, subject(1))
    table.apply([key, key], [value(Verdict.HELPFUL), None])
    assert (verdicts(table, [1]), table.count(SPEC)) == ([NO_LABEL], 0)
    table.apply([key], [value(Verdict.UNSURE)])
    assert (verdicts(table, [1]), table.count(SPEC)) == ([VERDICT_CODES[Verdict.UNSURE]], 1)


def test_unreadable_records_are_counted_and_change_nothing() -> None:
    table, good = LabelTable(), ids.label_key(SPEC, subject(1))
    table.apply([good], [value(Verdict.HELPFUL)])
    broken = [
        (None, value(Verdict.UNHELPFUL)),
        (b"short", value(Verdict.UNHELPFUL)),
        (good + b"x", None),
        (good, b""),
        (good, value(Verdict.UNHELPFUL)[:15]),
        (good, b"\xc3\x01" + bytes(30)),
        (good, value(Verdict.UNHELPFUL)[:10] + b"\x0c" + bytes(20)),  # a seventh verdict
        (good, b"no avro at all, just text"),
    ]
    keys, values = zip(*broken, strict=True)
    assert table.apply(keys, values) == len(broken)
    assert verdicts(table, [1]) == [HELPFUL]
    assert table.apply([*keys, good], [*values, None]) == len(broken)
    assert verdicts(table, [1]) == [NO_LABEL]


def test_labels_of_an_older_schema_are_read() -> None:
    """Their verdict may be elsewhere, so the bulk reader must not use the usual position."""
    document = codec.schema_document(Label)
    older = dict(document, fields=[*document["fields"][1:], document["fields"][0]])
    record = {"caption_partition": 1, "caption_offset": 2, "observed_at": 3, "annotated_at": 4}
    body = io.BytesIO()
    fastavro.schemaless_writer(
        body, fastavro.parse_schema(older), record | {"annotator": "a", "verdict": "helpful"}
    )
    old_value = codec.MARKER + codec.schema_fingerprint(older) + body.getvalue()
    table = LabelTable(SingleObjectCodec([older]))
    assert table.apply([ids.label_key(SPEC, subject(1))] * 2, [value(Verdict.UNSURE), old_value]) == 0
    assert verdicts(table, [1]) == [HELPFUL]


def test_labels_of_0_1_0_are_read_all_at_once_too() -> None:
    """Their schema had the verdict at the same place; to decode ten million records takes minutes."""

    class Counting(SingleObjectCodec):
        decoded = 0

        def decode(self, record_type: type[Any], data: bytes | None) -> Any:
            self.decoded += 1
            return super().decode(record_type, data)

    document = next(d for d in archived_documents() if d["name"] == "Label")
    plain, record = RecordBody(Label, document), Label(Verdict.HELPFUL, 1, 2, 3, 4, "a")
    old_value = codec.MARKER + codec.schema_fingerprint(document) + plain.encode(record)
    counting = Counting()
    table = LabelTable(counting)
    values = [old_value, value(Verdict.UNSURE), None] * 100
    keys = [ids.label_key(SPEC, subject(number)) for number in range(300)]
    assert table.apply(keys, values) == 0
    assert verdicts(table, range(300)) == [HELPFUL, UNSURE, NO_LABEL] * 100
    assert counting.decoded <= 1, "but for the time of the newest"


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([SPEC, OTHER_SPEC]), st.integers(0, 30), st.sampled_from([*Verdict, None])),
        max_size=80,
    ),
    st.integers(1, 17),
)
def test_the_last_value_of_each_key_counts_however_the_log_is_cut_into_batches(
    log: list[tuple[bytes, int, Verdict | None]], size: int
) -> None:
    table = LabelTable()
    for start in range(0, len(log), size):
        piece = log[start : start + size]
        keys = [ids.label_key(spec, subject(n)) for spec, n, _ in piece]
        assert table.apply(keys, [None if v is None else value(v) for *_, v in piece]) == 0
    last = {(spec, n): v for spec, n, v in log}
    for spec in (SPEC, OTHER_SPEC):
        expected = [VERDICT_CODES[v] if (v := last.get((spec, n))) else NO_LABEL for n in range(31)]
        assert verdicts(table, range(31), spec) == expected
        assert table.count(spec) == sum(code != NO_LABEL for code in expected)


@given(st.lists(st.binary(min_size=ids.SUBJECT_ID_BYTES, max_size=ids.SUBJECT_ID_BYTES) | st.just(bytes(16))))
def test_many_look_up_ids_are_those_of_each(subject_ids: list[bytes]) -> None:
    words = np.frombuffer(b"".join(subject_ids), "<i8")[::2]
    assert lookup_ids(words).tolist() == [ids.lookup_id(each) for each in subject_ids]
