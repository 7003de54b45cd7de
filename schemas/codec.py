"""Records to bytes and back: Avro single-object encoding.

A value on the bus is two marker bytes (C3 01), the 8-byte CRC-64-AVRO fingerprint of the schema it was
written with, and the Avro body (Avro specification 1.12, "Single-object encoding"). A reader therefore
always knows the writer's schema: the current one, or an older one kept in ``schemas/avro/archive``,
resolved to the current by Avro's rules.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import Any, TypeVar

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

from schemas.records import (
    Annotation,
    AnnotationSpec,
    CaptionObserved,
    CaptionOffset,
    DeadLetter,
    EpisodeFinished,
    Kind,
    Label,
    Origin,
    Record,
    RewardModelChunk,
    RewardUpdate,
    Verdict,
)

MARKER = b"\xc3\x01"
HEADER_BYTES = 10
"""Bytes before the Avro body: the marker and the fingerprint."""

R = TypeVar("R", bound=Record)

SCHEMA_FILES: Mapping[type[Record], str] = {
    CaptionObserved: "caption_observed",
    Label: "label",
    Annotation: "annotation",
    AnnotationSpec: "annotation_spec",
    RewardModelChunk: "reward_model_chunk",
    RewardUpdate: "reward_update",
    DeadLetter: "dead_letter",
    EpisodeFinished: "episode_finished",
}


class DecodeError(ValueError):
    """Bytes that are no record of the expected type; the message says why in one line."""


def encode(record: Record) -> bytes:
    """The bytes of ``record`` for the bus."""
    return _plan(type(record)).encode(record)


def decode(record_type: type[R], data: bytes | None) -> R:
    """The record in ``data``.

    Raises:
        DecodeError: no bytes at all, no single-object marker, an unknown fingerprint, a body cut
            short, bytes left over, or a value its schema does not allow.
    """
    record = _plan(record_type).decode(data)
    assert isinstance(record, record_type)
    return record


def header(record_type: type[Record]) -> bytes:
    """The 10 bytes that start every value of this type written with its current schema."""
    return _plan(record_type).header


def schema_document(record_type: type[Record]) -> dict[str, Any]:
    """The ``.avsc`` of a record type as parsed JSON, logical types included."""
    source = files("schemas") / "avro" / f"{SCHEMA_FILES[record_type]}.avsc"
    document: dict[str, Any] = json.loads(source.read_text())
    return document


def schema_fingerprint(document: Mapping[str, Any]) -> bytes:
    """CRC-64-AVRO fingerprint of a schema's parsing canonical form, 8 bytes little endian."""
    digest = fingerprint(to_parsing_canonical_form(_parse(document)), "CRC-64-AVRO")
    return bytes.fromhex(digest)


class RecordPlan:
    """How one record type is written and read; made once and kept."""

    def __init__(
        self,
        record_type: type[Record],
        document: Mapping[str, Any],
        archive: list[Mapping[str, Any]],
    ) -> None:
        self._type = record_type
        self._schema = _parse(document)
        self.header = MARKER + schema_fingerprint(document)
        self._writers = {MARKER + schema_fingerprint(old): _parse(old) for old in archive}
        self._names = tuple(f.name for f in fields(record_type))
        self._revive = _revivers(record_type)

    def encode(self, record: Record) -> bytes:
        return self.header + self.encode_body(record)

    def encode_body(self, record: Record) -> bytes:
        """The Avro body alone, without marker and fingerprint."""
        out = io.BytesIO()
        fastavro.schemaless_writer(out, self._schema, {n: _plain(getattr(record, n)) for n in self._names})
        return out.getvalue()

    def decode(self, data: bytes | None) -> Record:
        if data is None:
            raise DecodeError(f"{self._type.__name__}: no value")
        start = bytes(data[:HEADER_BYTES])
        if start == self.header:
            writer = self._schema
        elif start in self._writers:
            writer = self._writers[start]
        elif len(start) < HEADER_BYTES or start[:2] != MARKER:
            raise DecodeError(f"{self._type.__name__}: not Avro single-object encoding")
        else:
            raise DecodeError(f"{self._type.__name__}: unknown schema fingerprint {start[2:].hex()}")
        return self.decode_body(data[HEADER_BYTES:], writer)

    def decode_body(self, body: bytes, writer: Any = None) -> Record:
        """A record from an Avro body written with the parsed schema ``writer`` (default: current)."""
        stream = io.BytesIO(body)
        try:
            raw = fastavro.schemaless_reader(stream, writer or self._schema, self._schema)
            if stream.tell() != len(body):
                raise ValueError(f"{len(body) - stream.tell()} bytes left over")
            assert isinstance(raw, dict)
            for name, revive in self._revive.items():
                raw[name] = revive(raw[name])
            return self._type(**raw)
        except Exception as error:  # fastavro raises a dozen kinds on bad bytes; all mean the same here
            raise DecodeError(f"{self._type.__name__}: {type(error).__name__}: {error}") from error


@cache
def _plan(record_type: type[Record]) -> RecordPlan:
    folder = files("schemas") / "avro" / "archive"
    stem = SCHEMA_FILES[record_type]
    archive = (
        [json.loads(f.read_text()) for f in folder.iterdir() if f.name.startswith(f"{stem}.")]
        if folder.is_dir()
        else []
    )
    return RecordPlan(record_type, schema_document(record_type), archive)


def _parse(document: Mapping[str, Any]) -> Any:
    """Parsed schema without logical types: times stay integers, which is exact and far faster."""
    return fastavro.parse_schema(_without_logical_types(document), named_schemas={})


def _without_logical_types(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {k: _without_logical_types(v) for k, v in node.items() if k != "logicalType"}
    if isinstance(node, list):
        return [_without_logical_types(v) for v in node]
    return node


def _plain(value: Any) -> Any:
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, tuple):
        return [
            {"partition": v.partition, "offset": v.offset} if isinstance(v, CaptionOffset) else v
            for v in value
        ]
    return value


def _revivers(record_type: type[Record]) -> dict[str, Callable[[Any], Any]]:
    """Functions that turn Avro's plain values back into ours, by field."""
    by_type: dict[type[Record], dict[str, Callable[[Any], Any]]] = {
        Label: {"verdict": Verdict},
        Annotation: {
            "verdict": lambda v: None if v is None else Verdict(v),
            "origin": Origin,
            "texts": tuple,
            "sources": lambda v: tuple(CaptionOffset(**o) for o in v),
        },
        AnnotationSpec: {"kind": Kind},
        RewardUpdate: {"spec_ids": tuple},
    }
    return by_type.get(record_type, {})
