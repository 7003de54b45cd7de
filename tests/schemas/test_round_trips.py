"""What is written is what is read, and broken bytes are refused in one way."""

from __future__ import annotations

import io
import json
from contextlib import suppress
from dataclasses import fields
from functools import cache
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onibus.schemas import codec
from onibus.schemas.codec import DecodeError, SingleObjectCodec
from onibus.schemas.records import CaptionObserved, DeadLetter, Label, Record, Verdict
from tests.schemas.made_records import RECORD_TYPES, records

LABEL = Label(Verdict.HELPFUL, 3, 41, 1_700_000_000_000_000, 1_700_000_000_250_000, "a1")

LABEL_AS_JAVA_WRITES_IT = bytes.fromhex("c3012de77a76eb1163a30206528080f28183898506a0c2908283898506046131")
"""``LABEL`` from ``org.apache.avro.message.BinaryMessageEncoder`` of Java Avro 1.12.0 over label.1.avsc."""

every_type = pytest.mark.parametrize("record_type", RECORD_TYPES, ids=lambda t: t.__name__)


@cache
def schema_of_the_file(record_type: type[Record]) -> Any:
    document = json.dumps(codec.schema_document(record_type)).replace("timestamp-micros", "none")
    return fastavro.parse_schema(json.loads(document))


@cache
def header(record_type: type[Record]) -> bytes:
    """The bytes that start every value of the type's current schema."""
    return codec.MARKER + codec.schema_fingerprint(codec.schema_document(record_type))


@every_type
@given(data=st.data())
def test_a_record_survives_the_bus_with_its_types(record_type: type[Record], data: st.DataObject) -> None:
    record = data.draw(records(record_type))
    again = codec.decode(record_type, codec.encode(record))
    assert again == record
    for f in fields(record_type):
        assert type(getattr(again, f.name)) is type(getattr(record, f.name)), f.name


@every_type
@given(data=st.data())
def test_any_avro_reader_with_the_schema_file_reads_the_body(
    record_type: type[Record], data: st.DataObject
) -> None:
    record = data.draw(records(record_type))
    body = codec.encode(record)[codec.HEADER_BYTES :]
    read: Any = fastavro.schemaless_reader(io.BytesIO(body), schema_of_the_file(record_type), None)
    assert list(read) == [f.name for f in fields(record_type)]


def test_bytes_are_those_of_java_avro() -> None:
    no_confidence = no_leader = b"\x00"  # the first branch of the union
    body = LABEL_AS_JAVA_WRITES_IT[codec.HEADER_BYTES :]
    assert codec.encode(LABEL)[codec.HEADER_BYTES :] == body + no_confidence + no_leader
    assert codec.decode(Label, LABEL_AS_JAVA_WRITES_IT) == LABEL


def test_a_values_first_bytes_are_its_header_and_a_labels_next_one_its_verdict() -> None:
    for number, verdict in enumerate(Verdict):
        value = codec.encode(Label(verdict, 0, 0, 0, 0, ""))
        assert value[: codec.HEADER_BYTES] == header(Label)
        assert value[codec.HEADER_BYTES] == 2 * number  # Avro's zigzag of the symbol's index


def test_the_codec_object_writes_what_the_functions_write() -> None:
    as_object = SingleObjectCodec()
    assert as_object.encode("labels", LABEL) == codec.encode(LABEL)
    assert as_object.decode(Label, codec.encode(LABEL)) == LABEL
    assert as_object.header_of(Label, codec.encode(LABEL)) == header(Label)


@every_type
@given(data=st.data())
def test_every_truncation_is_refused(record_type: type[Record], data: st.DataObject) -> None:
    value = codec.encode(data.draw(records(record_type)))
    cut = data.draw(st.integers(0, len(value) - 1))
    with pytest.raises(DecodeError):
        codec.decode(record_type, value[:cut])


@every_type
@given(data=st.data())
def test_bytes_left_over_are_refused(record_type: type[Record], data: st.DataObject) -> None:
    value = codec.encode(data.draw(records(record_type)))
    with pytest.raises(DecodeError, match="left over"):
        codec.decode(record_type, value + data.draw(st.binary(min_size=1, max_size=8)))


@every_type
@given(data=st.data())
def test_a_flipped_bit_gives_a_record_or_a_decode_error(
    record_type: type[Record], data: st.DataObject
) -> None:
    value = bytearray(codec.encode(data.draw(records(record_type))))
    value[data.draw(st.integers(0, len(value) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    _is_read_or_refused(record_type, bytes(value))


@every_type
@given(body=st.binary(max_size=200))
def test_random_bodies_give_a_record_or_a_decode_error(record_type: type[Record], body: bytes) -> None:
    _is_read_or_refused(record_type, header(record_type) + body)


@every_type
@given(value=st.none() | st.binary(max_size=40))
def test_random_values_are_refused(record_type: type[Record], value: bytes | None) -> None:
    with pytest.raises(DecodeError):
        codec.decode(record_type, value)


@pytest.mark.parametrize("index", [b"\x01", b"\x03", b"\x0b", b"\x0c", b"\x80\x01"])
def test_an_enum_index_out_of_range_is_not_a_verdict(index: bytes) -> None:
    value = codec.encode(LABEL)
    with pytest.raises(DecodeError):
        codec.decode(Label, value[:10] + index + value[11:])


def test_a_number_in_more_bytes_than_it_needs_is_read_as_any_avro_reader_does() -> None:
    value = codec.encode(LABEL)
    assert codec.decode(Label, value[:10] + b"\x82\x00" + value[11:]) == LABEL


def test_a_union_index_out_of_range_is_refused() -> None:
    letter = DeadLetter("t", 0, 0, "c", "r", 1, None, None, None, 0)
    value = codec.encode(letter)
    before, after = value[:-3], value[-2:]
    assert before + b"\x00" + after == value, "two null branches and a zero time end the value"
    with pytest.raises(DecodeError):
        codec.decode(DeadLetter, value[:-4] + b"\x03" + value[-3:])


def test_a_record_of_another_type_is_refused_by_its_fingerprint() -> None:
    with pytest.raises(DecodeError, match="unknown schema fingerprint 556fa22233884394"):
        codec.decode(CaptionObserved, codec.encode(LABEL))


def test_the_error_is_one_line_that_names_the_type() -> None:
    with pytest.raises(DecodeError) as caught:
        codec.decode(Label, b"rubbish\nrubbish")
    assert str(caught.value) == "Label: not Avro single-object encoding"


def _is_read_or_refused(record_type: type[Record], value: bytes) -> None:
    """Any other exception than a DecodeError fails the test; what was read can be written."""
    with suppress(DecodeError):
        codec.encode(codec.decode(record_type, value))
