"""A schema can change: older and newer selves of every record read each other's values."""

from __future__ import annotations

import copy
import io
from dataclasses import asdict, fields, make_dataclass
from functools import cache
from typing import Any, cast

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onibus.schemas import codec
from onibus.schemas.avro_body import RecordBody, schema_document, schema_fingerprint
from onibus.schemas.codec import MARKER, DecodeError, SingleObjectCodec
from onibus.schemas.records import Label, Record, Verdict
from tests.schemas.made_records import RECORD_TYPES, records

every_type = pytest.mark.parametrize("record_type", RECORD_TYPES, ids=lambda t: t.__name__)
LABEL = Label(Verdict.TIE, 1, 2, 3, 4, "a1")


@every_type
@given(data=st.data())
@settings(max_examples=25)
def test_todays_code_reads_what_a_newer_self_wrote(record_type: type[Record], data: st.DataObject) -> None:
    record = data.draw(records(record_type))
    newer, its_header, reader = _newer_self(record_type)
    assert reader.decode(record_type, its_header + newer.encode(_newer(record))) == record


@every_type
@given(data=st.data())
@settings(max_examples=25)
def test_a_newer_self_reads_what_todays_code_wrote(record_type: type[Record], data: st.DataObject) -> None:
    record = data.draw(records(record_type))
    body = codec.encode(record)[codec.HEADER_BYTES :]
    newer, _, _ = _newer_self(record_type)
    assert newer.decode(body, newer.writer(schema_document(record_type))) == _newer(record)


@every_type
@given(data=st.data())
@settings(max_examples=25)
def test_todays_code_reads_what_an_older_self_wrote_that_had_one_field_more(
    record_type: type[Record], data: st.DataObject
) -> None:
    """The reverse of adding: a field that was dropped since."""
    record = data.draw(records(record_type))
    its_header, reader = _older_self(record_type)
    value = its_header + b"\x06old" + codec.encode(record)[codec.HEADER_BYTES :]
    assert reader.decode(record_type, value) == record


def test_a_value_of_a_version_that_was_not_archived_is_refused_not_guessed() -> None:
    newer = _with_new_field(Label)
    value = _written(newer, RecordBody(_newer_type(Label), newer).encode(_newer(LABEL)))
    with pytest.raises(DecodeError, match="unknown schema fingerprint"):
        SingleObjectCodec([]).decode(Label, value)


def test_a_verdict_that_this_code_does_not_know_yet_is_unsure() -> None:
    newer = copy.deepcopy(dict(schema_document(Label)))
    newer["fields"][0]["type"]["symbols"].append("splendid")
    as_written = {**asdict(LABEL), "verdict": "splendid"}
    value = _written(newer, _plain_body(newer, as_written))
    assert SingleObjectCodec([newer]).decode(Label, value).verdict is Verdict.UNSURE


def test_bytes_broken_under_an_older_schema_are_refused_too() -> None:
    older = copy.deepcopy(dict(schema_document(Label)))
    older["fields"].insert(1, {"name": "dropped", "type": "int", "doc": "Gone since."})
    body = _plain_body(older, {**asdict(LABEL), "dropped": 1, "verdict": "helpful"})
    reader = SingleObjectCodec([older])
    assert reader.decode(Label, _written(older, body)).verdict is Verdict.HELPFUL
    for broken in (body[:-1], body + b"\x00", b"\x01" + body[1:], b"\x10" + body[1:]):
        with pytest.raises(DecodeError):
            reader.decode(Label, _written(older, broken))


def test_an_archived_schema_that_fits_no_current_record_is_refused_when_read() -> None:
    other = copy.deepcopy(dict(schema_document(Label)))
    other["fields"] = other["fields"][:2]
    with pytest.raises(DecodeError, match=r"caption_offset|annotator"):
        SingleObjectCodec([other]).decode(Label, _written(other, b"\x02\x02"))


@cache
def _newer_self(record_type: type[Record]) -> tuple[RecordBody, bytes, SingleObjectCodec]:
    """What it writes with, how its values begin, and what reads them today."""
    newer = _with_new_field(record_type)
    return RecordBody(_newer_type(record_type), newer), _written(newer, b""), SingleObjectCodec([newer])


@cache
def _older_self(record_type: type[Record]) -> tuple[bytes, SingleObjectCodec]:
    """How its values begin, and what reads them today."""
    older = copy.deepcopy(dict(schema_document(record_type)))
    older["fields"].insert(0, {"name": "dropped", "type": "string", "doc": "Gone since."})
    return _written(older, b""), SingleObjectCodec([older])


def _with_new_field(record_type: type[Record]) -> dict[str, Any]:
    document = copy.deepcopy(dict(schema_document(record_type)))
    document["fields"].append({"name": "added", "type": "string", "default": "none", "doc": "New."})
    return document


def _newer_type(record_type: type[Record]) -> type[Record]:
    own = [(f.name, f.type) for f in fields(record_type)]
    return cast("type[Record]", _made(record_type, tuple(own)))


_MADE: dict[type[Any], type[Any]] = {}


def _made(record_type: type[Any], own: tuple[tuple[str, Any], ...]) -> type[Any]:
    if record_type not in _MADE:
        _MADE[record_type] = make_dataclass(
            record_type.__name__, [*own, ("added", "str")], frozen=True, slots=True
        )
    return _MADE[record_type]


def _newer(record: Record) -> Record:
    own = {f.name: getattr(record, f.name) for f in fields(record)}
    return _newer_type(type(record))(**own, added="none")  # type: ignore[call-arg]


def _plain_body(document: dict[str, Any], values: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(document, named_schemas={}), values)
    return out.getvalue()


def _written(document: dict[str, Any], body: bytes) -> bytes:
    return MARKER + schema_fingerprint(document) + body
