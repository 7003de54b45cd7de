"""The .avsc files: in step with the records, documented, and with fingerprints that Java computes too."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import fields
from types import NoneType
from typing import Any, get_args, get_type_hints

import fastavro
import pytest
from fastavro.utils import generate_one

from onibus.schemas import ids, records
from onibus.schemas.avro_body import RecordBody, archived_documents, schema_document, schema_fingerprint
from onibus.schemas.codec import SCHEMA_FILES, SingleObjectCodec
from tests.schemas.made_records import RECORD_TYPES

every_type = pytest.mark.parametrize("record_type", RECORD_TYPES, ids=lambda t: t.__name__)

WRITTEN_WITH = {
    "Annotation": ["f79c9b844199382b", "acd62482adf4e72b", "2975ecc0501a5265", "8b50208adb9197eb"],
    "AnnotationSpec": ["50352f66c78a7383", "72154cccb73128a0"],
    "CaptionObserved": ["67e34fda45a521d0", "7adc4338877b75c3"],
    "DeadLetter": ["bd8e5d459b18b80b"],
    "EpisodeFinished": [
        "3770d10ce70536d9",
        "8a30017785b9b77b",
        "3578d93b64acb787",
        "74d2c3cf088a4a6f",
        "c80b3caf5178b4ee",
    ],
    "Label": ["2de77a76eb1163a3", "d12bd630b6c971a2", "556fa22233884394"],
    "LearnedBlock": ["321b29b54ec9497a"],
    "RewardModelChunk": ["51a5eb00b4cd7b43"],
    "RewardUpdate": ["4710b72bae9947f0", "b5cd2041988559e4", "4958962847f629fc", "2ceae08a5cd8d533"],
}
"""Fingerprints, as bytes on the wire, of every schema that records were ever written with; found with
``avro-tools fingerprint --fingerprint CRC-64-AVRO`` of Java Avro 1.12.0. Append, never replace."""

ENUMS = {e.__name__: e for e in (records.Verdict, records.Origin, records.Kind)}
SIZES = {
    "SpecId": ids.SPEC_ID_BYTES,
    "SubjectId": ids.SUBJECT_ID_BYTES,
    "CaptionId": ids.CAPTION_ID_BYTES,
    "PromptHash": 16,
    "Sha256": 32,
}


@every_type
def test_record_and_schema_have_the_same_fields_in_order(record_type: type[records.Record]) -> None:
    document = schema_document(record_type)
    assert document["name"] == record_type.__name__
    assert [f["name"] for f in document["fields"]] == [f.name for f in fields(record_type)]


@every_type
def test_a_field_may_be_none_exactly_where_the_schema_says_null(record_type: type[records.Record]) -> None:
    hints = get_type_hints(record_type)
    for f in schema_document(record_type)["fields"]:
        nullable = isinstance(f["type"], list) and "null" in f["type"]
        assert nullable == (NoneType in get_args(hints[f["name"]])), f["name"]


@every_type
def test_everything_in_a_schema_is_documented(record_type: type[records.Record]) -> None:
    for node in _nodes(schema_document(record_type)):
        if node.get("type") in ("record", "enum"):
            assert node.get("doc"), f"{node['name']} has no doc"
        for f in node.get("fields", ()):
            assert len(f.get("doc", "")) > 8, f"{node['name']}.{f['name']} has no doc"


@every_type
def test_enums_and_sizes_are_those_of_the_code(record_type: type[records.Record]) -> None:
    for node in _nodes(schema_document(record_type)):
        if node.get("type") == "enum":
            assert node["symbols"] == [e.value for e in ENUMS[node["name"]]]
        if node.get("type") == "fixed":
            assert node["size"] == SIZES[node["name"]]


@every_type
def test_times_say_that_they_are_times(record_type: type[records.Record]) -> None:
    for f in schema_document(record_type)["fields"]:
        if f["name"].endswith("_at"):
            assert f["type"] == {"type": "long", "logicalType": "timestamp-micros"}, f["name"]


@pytest.mark.parametrize(
    ("schema", "wire_bytes"),
    [
        ('"null"', (0x63DD24E7CC258F8A).to_bytes(8, "little")),
        ('"int"', (0x7275D51A3F395C8F).to_bytes(8, "little")),
        ('"string"', (0x8F014872634503C7).to_bytes(8, "little")),
    ],
)
def test_fingerprints_are_those_of_the_avro_specification_little_endian(
    schema: str, wire_bytes: bytes
) -> None:
    assert schema_fingerprint(json.loads(schema)) == wire_bytes


@every_type
def test_what_was_ever_written_stays_readable(record_type: type[records.Record]) -> None:
    """If this fails, a schema changed: put the old file into schemas/avro/archive, append the new print."""
    readable = [schema_document(record_type)]
    readable += [d for d in archived_documents() if d["name"] == record_type.__name__]
    prints = {schema_fingerprint(d).hex() for d in readable}
    assert prints == set(WRITTEN_WITH[record_type.__name__])


@every_type
def test_what_was_ever_written_resolves_to_the_schema_of_today(record_type: type[records.Record]) -> None:
    body = RecordBody(record_type)
    for document in [schema_document(record_type), *archived_documents()]:
        if document["name"] == record_type.__name__:
            writer = body.writer(document)
            written = io.BytesIO()
            fastavro.schemaless_writer(written, writer.schema, generate_one(writer.schema))
            assert isinstance(body.decode(written.getvalue(), writer), record_type)


def test_every_archived_schema_belongs_to_a_record() -> None:
    assert {d["name"] for d in archived_documents()} <= {t.__name__ for t in SCHEMA_FILES}


def test_a_schema_is_parsed_once_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    caption = records.CaptionObserved("a caption", "score", "run", 0, 0, 0, 1, -1, 1)
    value = SingleObjectCodec().encode("", caption)

    def parsed_again(*_: object) -> None:
        raise AssertionError("parsed again")

    monkeypatch.setattr("onibus.schemas.codec.RecordBody", parsed_again)
    codec = SingleObjectCodec()
    assert codec.encode("", caption) == value
    assert codec.decode(records.CaptionObserved, value) == caption


def _nodes(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _nodes(child)
