"""A schema registry that fails: a scripted HTTP server on loopback stands in for the broken one."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from onibus.infra.kafka.schema_registry import HEADER_BYTES, KNOWN_IDS, TRIES, ConfluentCodec, SchemaRegistry
from onibus.schemas.codec import DecodeError, RegistryError
from onibus.schemas.records import Label, Verdict
from tests.ports import free_port

LABEL = Label(Verdict.HELPFUL, 0, 0, 0, 0, "a1")
UNKNOWN = (404, json.dumps({"error_code": 40403, "message": "Schema not found"}))
REGISTERED = (200, json.dumps({"id": 7}))


@dataclass
class Script:
    """Responses in order, of which the last one repeats, and the requests received."""

    answers: list[tuple[int, str]]
    asked: list[str] = field(default_factory=list)
    authorization: list[str | None] = field(default_factory=list)


@contextmanager
def scripted(*answers: tuple[int, str]) -> Iterator[tuple[str, Script]]:
    script = Script(list(answers))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            script.asked.append(f"{self.command} {self.path}")
            script.authorization.append(self.headers.get("Authorization"))
            status, body = script.answers.pop(0) if len(script.answers) > 1 else script.answers[0]
            self.send_response(status)
            self.send_header("Content-Length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_GET  # noqa: N815  the standard library looks for this name

        def log_message(self, format: str, *args: object) -> None:
            """Tests need no access log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", script
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def registry(url: str, pauses: list[float] | None = None) -> SchemaRegistry:
    """A registry client that notes its pauses instead of making them."""
    return SchemaRegistry(url, pause=(pauses if pauses is not None else []).append)


def test_a_transient_failure_is_retried_with_growing_pauses() -> None:
    pauses: list[float] = []
    with scripted((503, "<html>"), (500, ""), REGISTERED) as (url, script):
        assert registry(url, pauses).register("s", {"type": "record"}) == 7
    assert pauses == [0.2, 0.4]
    assert script.asked == ["POST /subjects/s/versions"] * 3


def test_a_registry_that_stays_broken_is_not_a_fault_of_the_record() -> None:
    value = b"\x00\x00\x00\x00\x07\x02\x00\x00\x00\x00\x04a1"
    with scripted((500, "boom")) as (url, script), pytest.raises(RegistryError, match="status 500"):
        ConfluentCodec(registry(url)).decode(Label, value)
    assert len(script.asked) == TRIES


def test_no_registry_at_the_address_is_one_line_that_says_what_to_do() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(RegistryError, match=r"does not answer .* --schema-registry-url") as caught:
        registry(url).check()
    assert "\n" not in str(caught.value)


def test_after_an_outage_the_same_codec_continues() -> None:
    with scripted(*[(503, "")] * TRIES, REGISTERED) as (url, _):
        codec = ConfluentCodec(registry(url))
        with pytest.raises(RegistryError):
            codec.encode("labels", LABEL)
        assert codec.encode("labels", LABEL)[:HEADER_BYTES] == b"\x00\x00\x00\x00\x07"


@pytest.mark.parametrize("answer", [(200, "<html>"), (200, "[]"), (200, "{}"), (404, "no"), (401, "{}")])
def test_an_answer_that_makes_no_sense_is_not_taken_for_an_unknown_schema(answer: tuple[int, str]) -> None:
    with scripted(answer) as (url, _), pytest.raises(RegistryError):
        registry(url).schema(7)


@pytest.mark.parametrize(
    "schema", ['"string"', "[]", "{", '{"type": "record", "name": "Label"}', '{"name": "Label"}']
)
def test_a_schema_of_another_record_is_a_decode_error(schema: str) -> None:
    with scripted((200, json.dumps({"schema": schema}))) as (url, _), pytest.raises(DecodeError):
        ConfluentCodec(registry(url)).decode(Label, b"\x00\x00\x00\x00\x07\x02")


def test_a_schema_of_another_language_is_a_decode_error() -> None:
    found = {"schemaType": "PROTOBUF", "schema": 'syntax = "proto3";'}
    with scripted((200, json.dumps(found))) as (url, _), pytest.raises(DecodeError, match="proto3"):
        ConfluentCodec(registry(url)).decode(Label, b"\x00\x00\x00\x00\x07\x02")


def test_an_unknown_id_is_requested_once_however_often_it_comes() -> None:
    with scripted(UNKNOWN) as (url, script):
        codec = ConfluentCodec(registry(url))
        for _ in range(5):
            with pytest.raises(DecodeError, match="has no schema 258"):
                codec.decode(Label, b"\x00\x00\x00\x01\x02garbage")
    assert script.asked == ["GET /schemas/ids/258"]


def test_garbage_with_ever_new_ids_does_not_grow_memory() -> None:
    with scripted(UNKNOWN) as (url, _):
        codec = ConfluentCodec(registry(url))
        for number in range(KNOWN_IDS + 50):
            with pytest.raises(DecodeError):
                codec.decode(Label, b"\x00" + number.to_bytes(4, "big"))
    assert len(codec._writers[Label]) == KNOWN_IDS


def test_user_and_password_are_sent_and_never_shown() -> None:
    with scripted((401, '{"message": "who are you"}')) as (url, script):
        with_secret = url.replace("http://", "http://anna:s3cret@")
        with pytest.raises(RegistryError) as caught:
            registry(with_secret).check()
    assert script.authorization == [httpx.BasicAuth("anna", "s3cret")._auth_header]
    assert "s3cret" not in str(caught.value)
    assert "anna" not in str(caught.value)
    assert "who are you" in str(caught.value)


def test_a_subject_with_odd_characters_stays_one_subject() -> None:
    with scripted(REGISTERED) as (url, script):
        registry(url).register("a/b c-value", {"type": "record"})
    assert script.asked == ["POST /subjects/a%2Fb%20c-value/versions"]
