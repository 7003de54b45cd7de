"""The Confluent wire format: values that name their schema by an id in a schema registry.

A value is a zero byte, the schema's id (4 bytes, big endian) and the Avro body, as specified in
Confluent's "Wire format" and used with every registry that offers its REST interface (Confluent,
Karapace, Apicurio under /apis/ccompat/v7). Subjects are named by topic: ``<topic>-value``.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import quote

import httpx

from onibus.schemas.avro_body import SCHEMA_FILES, Document, RecordBody, Writer
from onibus.schemas.errors import DecodeError, RegistryError
from onibus.schemas.records import Record

MAGIC = b"\x00"
HEADER_BYTES = 5
"""Bytes before the Avro body: the magic byte and the schema id."""

KNOWN_IDS = 1024
"""Schema ids remembered per record type, unknown ones included; the oldest is dropped first."""

UNKNOWN_SECONDS = 30.0
"""How long an id that the registry did not have is not requested again: garbage must not cause a storm of
requests, and a registry's follower may lag a little."""

TRIES = 4
FIRST_PAUSE_SECONDS = 0.2

_CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"
_SCHEMA_NOT_FOUND = 40403
_TRANSIENT = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS, *range(500, 600)}

R = TypeVar("R", bound=Record)


class ConfluentCodec:
    """Records to values and back with schema ids from ``registry``; see :class:`onibus.schemas.codec.Codec`.

    A topic's schema is registered when the first record is written to it (registering it again changes
    nothing); ids and schemas are cached, so each is requested from the registry once.
    """

    def __init__(self, registry: SchemaRegistry) -> None:
        self._registry = registry
        self._bodies: dict[type[Any], RecordBody] = {
            record_type: RecordBody(record_type) for record_type in SCHEMA_FILES
        }
        self._headers: dict[tuple[str, type[Record]], bytes] = {}
        self._writers: dict[type[Any], _Known] = {record_type: _Known() for record_type in SCHEMA_FILES}

    def encode(self, topic: str, record: Record) -> bytes:
        """See :meth:`onibus.schemas.codec.Codec.encode`."""
        record_type = type(record)
        return self._header(topic, record_type) + self._bodies[record_type].encode(record)

    def decode(self, record_type: type[R], data: bytes | None) -> R:
        """See :meth:`onibus.schemas.codec.Codec.decode`."""
        body = self._bodies[record_type]
        if data is None:
            raise body.error("no value")
        if len(data) < HEADER_BYTES or data[:1] != MAGIC:
            raise body.error("not in the Confluent wire format")
        writer = self._writer(record_type, int.from_bytes(data[1:HEADER_BYTES], "big"))
        record = body.decode(data[HEADER_BYTES:], writer)
        assert isinstance(record, record_type)
        return record

    def header_of(self, record_type: type[Record], value: bytes) -> bytes | None:
        """See :meth:`onibus.schemas.codec.Codec.header_of`."""
        if len(value) < HEADER_BYTES or value[:1] != MAGIC:
            return None
        try:
            writer = self._writer(record_type, int.from_bytes(value[1:HEADER_BYTES], "big"))
        except DecodeError:
            return None
        return value[:HEADER_BYTES] if writer.begins_alike else None

    def _header(self, topic: str, record_type: type[Record]) -> bytes:
        """The header of every value of this type on ``topic``; registers the schema the first time."""
        key = (topic, record_type)
        if key not in self._headers:
            schema_id = self._registry.register(f"{topic}-value", self._bodies[record_type].document)
            self._headers[key] = MAGIC + schema_id.to_bytes(HEADER_BYTES - 1, "big")
        return self._headers[key]

    def _writer(self, record_type: type[Any], schema_id: int) -> Writer:
        known, body = self._writers[record_type], self._bodies[record_type]
        if (writer := known.get(schema_id)) is None:
            document = self._registry.schema(schema_id)
            writer = _UNKNOWN if document is None else body.writer(document)
            known.put(schema_id, writer)
        if writer is _UNKNOWN:
            raise body.error(f"the schema registry has no schema {schema_id}")
        assert isinstance(writer, Writer)
        return writer


class SchemaRegistry:
    """The few requests to a schema registry that a codec needs.

    Failures that may pass (no connection, 5xx, 429) are retried three times within 1.4 s.

    Args:
        url: its address, path included; user and password in it are sent and never shown.
        client: makes the requests; its time-out bounds each attempt.
        pause: waits for a number of seconds.
    """

    def __init__(
        self, url: str, client: httpx.Client | None = None, pause: Callable[[float], None] = time.sleep
    ) -> None:
        parsed = httpx.URL(url)
        self.shown = str(parsed.copy_with(userinfo=b""))
        """The address without user and password, for messages."""
        self._base = str(parsed).rstrip("/")
        self._client = client or httpx.Client(timeout=5.0)
        self._pause = pause

    def check(self) -> None:
        """Check that a registry for Avro responds at the address.

        Raises:
            RegistryError: none does.
        """
        answer = self._ask("GET", "/schemas/types")
        if answer.status_code != HTTPStatus.OK or "AVRO" not in _json(answer, list):
            raise self._refused("is not a schema registry for Avro", answer)

    def register(self, subject: str, document: Document) -> int:
        """Register a schema under ``subject`` and return its id.

        Raises:
            RegistryError: the registry does not respond, or refuses the schema.
        """
        path = f"/subjects/{quote(subject, safe='')}/versions"
        answer = self._ask("POST", path, json.dumps({"schema": json.dumps(document)}))
        schema_id = _json(answer, dict).get("id") if answer.status_code == HTTPStatus.OK else None
        if not isinstance(schema_id, int):
            raise self._refused(f"refuses the schema for subject {subject}", answer)
        return schema_id

    def schema(self, schema_id: int) -> Document | None:
        """The schema with an id; None if the registry has none.

        For a schema in another language, a document whose name is the beginning of the schema.

        Raises:
            RegistryError: the registry does not respond, or not as expected.
        """
        answer = self._ask("GET", f"/schemas/ids/{schema_id}")
        found = _json(answer, dict)
        if answer.status_code == HTTPStatus.NOT_FOUND and found.get("error_code") == _SCHEMA_NOT_FOUND:
            return None
        if answer.status_code != HTTPStatus.OK or not isinstance(found.get("schema"), str):
            raise self._refused(f"does not return schema {schema_id}", answer)
        try:
            document = json.loads(found["schema"])
        except ValueError:  # in another schema language
            document = None
        return document if isinstance(document, Mapping) else {"name": found["schema"][:40]}

    def _ask(self, method: str, path: str, content: str | None = None) -> httpx.Response:
        headers = {"Accept": f"{_CONTENT_TYPE}, application/json", "Content-Type": _CONTENT_TYPE}
        for attempt in range(TRIES):
            if attempt:
                self._pause(FIRST_PAUSE_SECONDS * 2 ** (attempt - 1))
            try:
                answer = self._client.request(method, self._base + path, content=content, headers=headers)
            except httpx.UnsupportedProtocol:
                raise
            except httpx.TransportError as error:
                reason = str(error) or type(error).__name__
                continue
            if answer.status_code not in _TRANSIENT:
                return answer
            reason = f"status {answer.status_code}"
        raise RegistryError(
            f"the schema registry at {self.shown} does not answer ({reason}); start it or change "
            "--schema-registry-url"
        )

    def _refused(self, what: str, answer: httpx.Response) -> RegistryError:
        said = _json(answer, dict).get("message") or answer.text
        return RegistryError(
            f"the schema registry at {self.shown} {what}: status {answer.status_code}, "
            f"{' '.join(str(said).split())[:200]}; check its compatibility setting, rights and address"
        )


_UNKNOWN = object()

J = TypeVar("J", list[Any], dict[str, Any])


def _json(answer: httpx.Response, kind: type[J]) -> J:
    """The response's JSON if it is of this type, else an empty one: error pages are often HTML."""
    try:
        value = answer.json()
    except ValueError:
        return kind()
    return value if isinstance(value, kind) else kind()


class _Known:
    """A cache by schema id of at most :data:`KNOWN_IDS` entries; unknown ids expire."""

    def __init__(self) -> None:
        self._by_id: dict[int, tuple[Any, float]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, schema_id: int) -> Any:
        value, since = self._by_id.get(schema_id, (None, 0.0))
        if value is _UNKNOWN and time.monotonic() - since > UNKNOWN_SECONDS:
            return None
        return value

    def put(self, schema_id: int, value: Any) -> None:
        with self._lock:
            self._by_id.pop(schema_id, None)
            while len(self._by_id) >= KNOWN_IDS:
                del self._by_id[next(iter(self._by_id))]
            self._by_id[schema_id] = (value, time.monotonic())
