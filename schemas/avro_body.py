"""Records to Avro bodies and back, without any header: what both wire formats share.

The ``.avsc`` files are the truth. They are parsed without logical types: times stay integers, which is
exact and far faster than datetime objects.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from enum import StrEnum
from importlib.resources import files
from typing import Any

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

from schemas.errors import DecodeError
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

Document = Mapping[str, Any]
"""An ``.avsc`` file as parsed JSON."""

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


class RecordBody:
    """How one record type is written and read with one schema; made once and kept.

    ``document`` is the reader's schema and the one written with: the current ``.avsc`` unless a test
    plays an older or newer self.
    """

    def __init__(self, record_type: type[Record], document: Document | None = None) -> None:
        self.type = record_type
        self.document = document or schema_document(record_type)
        self._schema = parse(self.document)
        self._names = tuple(f.name for f in fields(record_type))
        self._revive = _REVIVERS.get(self.document["name"], {})
        self._indexed = _chooses(self.document)

    def encode(self, record: Record) -> bytes:
        """The Avro body of ``record``."""
        out = io.BytesIO()
        fastavro.schemaless_writer(out, self._schema, {n: _plain(getattr(record, n)) for n in self._names})
        return out.getvalue()

    def decode(self, body: bytes, writer: Any = None) -> Record:
        """A record from a body written with the parsed schema ``writer`` (None: our own).

        Raises:
            DecodeError: the body is cut short or too long, or a value does not fit its schema.
        """
        try:
            raw = self._read(body, writer)
            for name, revive in self._revive.items():
                raw[name] = revive(raw[name])
            return self.type(**raw)
        except Exception as error:  # fastavro raises a dozen kinds on bad bytes; all mean the same here
            raise self.error(f"{type(error).__name__}: {error}") from error

    def _read(self, body: bytes, writer: Any) -> dict[str, Any]:
        stream = io.BytesIO(body)
        raw: Any = fastavro.schemaless_reader(stream, writer or self._schema, None)
        if stream.tell() != len(body):
            raise ValueError(f"{len(body) - stream.tell()} bytes left over")
        if self._indexed:
            _refuse_negative_index(writer or self._schema, raw, body)
        if writer is not None:
            raw = fastavro.schemaless_reader(io.BytesIO(body), writer, self._schema)
        assert isinstance(raw, dict)
        return raw

    def writer(self, document: Document) -> Any:
        """Another version of this schema, parsed, for :meth:`decode`.

        Raises:
            DecodeError: it is the schema of something else, or no schema.
        """
        name = document.get("name") if isinstance(document, Mapping) else None
        if name != self.document["name"]:
            raise self.error(f"written as {name or document}, which is something else")
        try:
            return parse(document)
        except Exception as error:  # from outside: a registry or a file; fastavro raises several kinds
            raise self.error(f"its schema cannot be read: {error}") from error

    def error(self, reason: str) -> DecodeError:
        return DecodeError(f"{self.type.__name__}: {reason}")


def schema_document(record_type: type[Record]) -> Document:
    """The current ``.avsc`` of a record type, logical types and docs included."""
    source = files("schemas") / "avro" / f"{SCHEMA_FILES[record_type]}.avsc"
    document: dict[str, Any] = json.loads(source.read_text())
    return document


def archived_documents() -> list[Document]:
    """Other versions of the schemas: ``schemas/avro/archive/*.avsc``, in any order, matched by name.

    Before a schema changes, the file as it is goes there (``label.1.avsc``), so that what was written
    with it stays readable; a newer version may be laid there too, for readers that lag behind.
    """
    folder = files("schemas") / "avro" / "archive"
    if not folder.is_dir():
        return []
    return [json.loads(f.read_text()) for f in folder.iterdir() if f.name.endswith(".avsc")]


def schema_fingerprint(document: Document) -> bytes:
    """CRC-64-AVRO fingerprint of a schema's parsing canonical form, 8 bytes little endian.

    fastavro gives the bytes in the order in which they stand on the wire, as Java's Avro does.
    """
    return bytes.fromhex(fingerprint(to_parsing_canonical_form(parse(document)), "CRC-64-AVRO"))


def parse(document: Document) -> Any:
    """``document`` as fastavro wants it, without logical types."""
    return fastavro.parse_schema(_without_logical_types(document), named_schemas={})


def _refuse_negative_index(schema: Any, raw: dict[str, Any], body: bytes) -> None:
    """Refuse a body that Avro would not have written.

    fastavro looks enum symbols and union branches up in Python lists, so a broken -1 quietly means the
    last one; written back it becomes another number.
    """
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, raw)
    if out.getvalue() != body:
        raise ValueError("an index out of range or a number in more bytes than it needs")


def _chooses(node: Any) -> bool:
    """Whether a schema has an enum or a union in it, which stand on the wire as an index."""
    if isinstance(node, Mapping):
        return node.get("type") == "enum" or any(
            _chooses(node.get(key)) for key in ("type", "items", "fields")
        )
    if isinstance(node, list):
        return any(isinstance(v, str) for v in node) or any(_chooses(v) for v in node)
    return False


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


_REVIVERS: Mapping[str, Mapping[str, Callable[[Any], Any]]] = {
    "Label": {"verdict": Verdict},
    "Annotation": {
        "verdict": lambda v: None if v is None else Verdict(v),
        "origin": Origin,
        "texts": tuple,
        "sources": lambda v: tuple(CaptionOffset(**o) for o in v),
    },
    "AnnotationSpec": {"kind": Kind},
    "RewardUpdate": {"spec_ids": tuple},
}
"""Functions that turn Avro's plain values back into ours, by schema and field."""
