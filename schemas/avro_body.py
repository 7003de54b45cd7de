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
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

from onibus.schemas.assembling import assembler
from onibus.schemas.errors import DecodeError
from onibus.schemas.records import (
    Annotation,
    AnnotationSpec,
    CaptionObserved,
    CaptionOffset,
    DeadLetter,
    EpisodeFinished,
    Kind,
    Label,
    LearnedAnnotation,
    LearnedBlock,
    Message,
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
    LearnedBlock: "learned_block",
    DeadLetter: "dead_letter",
    EpisodeFinished: "episode_finished",
}


class Writer(NamedTuple):
    """A schema that values were written with, parsed.

    Attributes:
        schema: to resolve against the reader's.
        guarded: the same, in which a negative index is an error; it is read with first.
        begins_alike: whether the first field of a body written with it is that of the current schema.
    """

    schema: Any
    guarded: Any
    begins_alike: bool


class RecordBody:
    """How one record type is written and read with one schema; made once and kept.

    ``document`` is the reader's schema and the one written with: the current ``.avsc`` unless a test
    plays an older or newer self.
    """

    def __init__(self, record_type: type[Record], document: Document | None = None) -> None:
        self.type = record_type
        self.document = document or schema_document(record_type)
        self._schema = parse(self.document)
        self._guarded = _with_choices(parse(self.document))
        self._names = tuple(f.name for f in fields(record_type))
        self._revive = tuple(_REVIVERS.get(self.document["name"], {}).items())
        self._assemble: Callable[[dict[str, Any]], Record] = assembler(record_type)

    def encode(self, record: Record) -> bytes:
        """The Avro body of ``record``."""
        out = io.BytesIO()
        fastavro.schemaless_writer(out, self._schema, {n: _plain(getattr(record, n)) for n in self._names})
        return out.getvalue()

    def decode(self, body: bytes, writer: Writer | None = None) -> Record:
        """A record from a body written with another schema, ``writer`` (None: with our own).

        Raises:
            DecodeError: the body is cut short or too long, or a value does not fit its schema.
        """
        try:
            stream, guarded = io.BytesIO(body), self._guarded if writer is None else writer.guarded
            raw: Any = fastavro.schemaless_reader(stream, guarded, None)
            if stream.tell() != len(body):
                raise ValueError(f"{len(body) - stream.tell()} bytes left over")
            if writer is not None:
                raw = fastavro.schemaless_reader(io.BytesIO(body), writer.schema, self._schema)
            for name, revive in self._revive:
                raw[name] = revive(raw[name])
            return self._assemble(raw)
        except Exception as error:  # fastavro raises a dozen kinds on bad bytes; all mean the same here
            raise self.error(f"{type(error).__name__}: {error}") from error

    def writer(self, document: Document) -> Writer:
        """Another version of this schema, parsed, for :meth:`decode`.

        Raises:
            DecodeError: it is the schema of something else, or no schema.
        """
        name = document.get("name") if isinstance(document, Mapping) else None
        if name != self.document["name"]:
            raise self.error(f"written as {name or document}, which is something else")
        try:
            begins_alike = _first_field(document) == _first_field(self.document)
            return Writer(parse(document), _with_choices(parse(document)), begins_alike)
        except Exception as error:  # from outside: a registry or a file; fastavro raises several kinds
            raise self.error(f"its schema cannot be read: {error}") from error

    def error(self, reason: str) -> DecodeError:
        return DecodeError(f"{self.type.__name__}: {reason}")


def schema_document(record_type: type[Record]) -> Document:
    """The current ``.avsc`` of a record type, logical types and docs included."""
    source = files("onibus.schemas") / "avro" / f"{SCHEMA_FILES[record_type]}.avsc"
    document: dict[str, Any] = json.loads(source.read_text())
    return document


@cache
def archived_documents() -> tuple[Document, ...]:
    """Other versions of the schemas: ``schemas/avro/archive/*.avsc``, in any order, matched by name.

    Before a schema changes, the file as it is goes there (``label.1.avsc``), so that what was written
    with it stays readable; a newer version may be laid there too, for readers that lag behind.
    """
    folder = files("onibus.schemas") / "avro" / "archive"
    if not folder.is_dir():
        return ()
    return tuple(json.loads(f.read_text()) for f in folder.iterdir() if f.name.endswith(".avsc"))


def schema_fingerprint(document: Document) -> bytes:
    """CRC-64-AVRO fingerprint of a schema's parsing canonical form, 8 bytes little endian.

    fastavro gives the bytes in the order in which they stand on the wire, as Java's Avro does.
    """
    return bytes.fromhex(fingerprint(to_parsing_canonical_form(parse(document)), "CRC-64-AVRO"))


def _first_field(document: Document) -> str:
    """The parsing canonical form of a schema that ends after its first field."""
    form: str = to_parsing_canonical_form(parse({**document, "fields": document["fields"][:1]}))
    return form


def parse(document: Document) -> Any:
    """``document`` as fastavro wants it, without logical types."""
    return fastavro.parse_schema(_without_logical_types(document), named_schemas={})


class _Choices(list[Any]):
    """Enum symbols or union branches, which stand on the wire as an index.

    fastavro looks them up in lists, where a broken -1 would quietly mean the last one: a sequence that is
    given a negative index asks for its own length, and this one has none to tell.
    """

    def __len__(self) -> int:
        raise ValueError("a negative index of an enum or a union")


def _with_choices(node: Any) -> Any:
    """A parsed schema, changed in place, whose enums and unions refuse negative indices."""
    if isinstance(node, dict):
        for key, value in node.items():
            node[key] = [_with_choices(f) for f in value] if key == "fields" else _with_choices(value)
        return node
    return _Choices(map(_with_choices, node)) if isinstance(node, list) else node


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
        return [_plain_item(v) for v in value]
    return value


def _plain_item(item: Any) -> Any:
    if isinstance(item, CaptionOffset):
        return {"partition": item.partition, "offset": item.offset}
    if isinstance(item, Message):
        return {"role": item.role, "content": item.content}
    if isinstance(item, LearnedAnnotation):
        return {name: _plain(getattr(item, name)) for name in item.__slots__}
    return item


_VERDICTS: Mapping[str | None, Verdict | None] = {verdict.value: verdict for verdict in Verdict} | {
    None: None
}
_ORIGINS = {origin.value: origin for origin in Origin}
"""Looked up for every record, which is several times faster than the enum's own search."""

_caption_offset = assembler(CaptionOffset)
_message = assembler(Message)
_learned = assembler(LearnedAnnotation)


def _learned_annotation(raw: dict[str, Any]) -> LearnedAnnotation:
    raw["verdict"], raw["origin"] = _VERDICTS[raw["verdict"]], _ORIGINS[raw["origin"]]
    raw["texts"] = tuple(raw["texts"])
    return _learned(raw)


_REVIVERS: Mapping[str, Mapping[str, Callable[[Any], Any]]] = {
    "Label": {"verdict": _VERDICTS.__getitem__},
    "Annotation": {
        "verdict": _VERDICTS.__getitem__,
        "origin": _ORIGINS.__getitem__,
        "texts": tuple,
        "sources": lambda v: tuple(map(_caption_offset, v)),
        "said": _VERDICTS.__getitem__,
    },
    "AnnotationSpec": {"kind": Kind, "messages": lambda v: tuple(map(_message, v))},
    "RewardUpdate": {"spec_ids": tuple},
    "LearnedBlock": {"annotations": lambda v: tuple(map(_learned_annotation, v))},
}
"""Functions that turn Avro's plain values back into ours, by schema and field."""
