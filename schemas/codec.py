"""Encodes records as values on a topic, and decodes them.

The default format is Avro's single-object encoding (Avro specification 1.12, "Single-object encoding"): two
marker bytes (C3 01), the 8-byte CRC-64-AVRO fingerprint of the schema the value was written with, and
the Avro body. A reader therefore always knows the writer's schema: the current one, or another one kept
in ``schemas/avro/archive``, resolved to the current one by Avro's rules. The other format, with a schema
registry, is ``onibus.infra.kafka.schema_registry``; ``onibus.infra.kafka.codecs`` chooses by the settings.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, TypeVar

from onibus.schemas.avro_body import (
    SCHEMA_FILES,
    Document,
    RecordBody,
    Writer,
    archived_documents,
    schema_document,
    schema_fingerprint,
)
from onibus.schemas.errors import DecodeError, RegistryError
from onibus.schemas.records import Record

__all__ = [
    "HEADER_BYTES",
    "MARKER",
    "SCHEMA_FILES",
    "Codec",
    "DecodeError",
    "RegistryError",
    "SingleObjectCodec",
    "decode",
    "encode",
    "schema_document",
    "schema_fingerprint",
]

MARKER = b"\xc3\x01"
HEADER_BYTES = 10
"""Bytes before the Avro body: the marker and the fingerprint."""

R = TypeVar("R", bound=Record)


class Codec(Protocol):
    """What producers and consumers need from a wire format; safe to share between threads."""

    def encode(self, topic: str, record: Record) -> bytes:
        """The value of ``record`` on ``topic``.

        Raises:
            RegistryError: a schema registry is used and does not respond.
        """

    def decode(self, record_type: type[R], data: bytes | None) -> R:
        """The record in ``data``.

        Raises:
            DecodeError: the bytes are not such a record.
            RegistryError: as for :meth:`encode`.
        """

    def header_of(self, record_type: type[Record], value: bytes) -> bytes | None:
        """The bytes before the Avro body of ``value`` if its first field is the current schema's; else None.

        Values that start with these bytes were all written with one schema, so bulk readers can find their
        first field at a fixed position.

        Raises:
            RegistryError: as for :meth:`encode`; nothing is registered.
        """


class SingleObjectCodec:
    """Avro single-object encoding.

    Args:
        documents: other versions of the schemas (parsed ``.avsc``) whose values are to be readable;
            by default those in ``schemas/avro/archive``. Schemas of other records are ignored.
    """

    def __init__(self, documents: Iterable[Document] | None = None) -> None:
        self._forms: dict[type[Any], _Form] = _SHIPPED
        if documents is not None:
            others = list(documents)
            self._forms = {each: _Form(RecordBody(each), others) for each in SCHEMA_FILES}

    def encode(self, topic: str, record: Record) -> bytes:
        """See :meth:`Codec.encode`; the topic makes no difference here."""
        return self._forms[type(record)].encode(record)

    def decode(self, record_type: type[R], data: bytes | None) -> R:
        """See :meth:`Codec.decode`."""
        record = self._forms[record_type].decode(data)
        assert isinstance(record, record_type)
        return record

    def header_of(self, record_type: type[Record], value: bytes) -> bytes | None:
        """See :meth:`Codec.header_of`."""
        header = value[:HEADER_BYTES]
        return header if header in self._forms[record_type].alike else None


def encode(record: Record) -> bytes:
    """The bytes of ``record`` in single-object encoding."""
    return _DEFAULT.encode("", record)


def decode(record_type: type[R], data: bytes | None) -> R:
    """The record in ``data``, which is in single-object encoding.

    Raises:
        DecodeError: no value, no single-object marker, an unknown fingerprint, a truncated body,
            trailing bytes, or a value that its schema does not allow.
    """
    return _DEFAULT.decode(record_type, data)


class _Form:
    """One record type in single-object encoding."""

    def __init__(self, body: RecordBody, others: Iterable[Document]) -> None:
        self._body = body
        self.header = _header(body.document)
        own_name = body.document["name"]
        self._writers: dict[bytes, Writer | None] = {
            _header(document): body.writer(document) for document in others if document["name"] == own_name
        }
        self._writers[self.header] = None
        self.alike = {h for h, writer in self._writers.items() if writer is None or writer.begins_alike}

    def encode(self, record: Record) -> bytes:
        return self.header + self._body.encode(record)

    def decode(self, data: bytes | None) -> Record:
        if data is None:
            raise self._body.error("no value")
        start = data[:HEADER_BYTES]
        if start not in self._writers:
            if len(start) < HEADER_BYTES or start[:2] != MARKER:
                raise self._body.error("not Avro single-object encoding")
            raise self._body.error(f"unknown schema fingerprint {start[2:].hex()}")
        return self._body.decode(data[HEADER_BYTES:], self._writers[start])


def _header(document: Document) -> bytes:
    return MARKER + schema_fingerprint(document)


class _ShippedForms(dict[type[Any], _Form]):
    """The forms with the versions in the archive, each made when it is first used: it takes milliseconds."""

    def __missing__(self, record_type: type[Any]) -> _Form:
        form = self[record_type] = _Form(RecordBody(record_type), archived_documents())
        return form


_SHIPPED = _ShippedForms()
_DEFAULT = SingleObjectCodec()
