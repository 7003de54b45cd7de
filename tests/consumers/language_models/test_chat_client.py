"""What is sent to a model server, by which way, and what of the environment has a say in it."""

from __future__ import annotations

import asyncio
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from onibus.consumers.language_models.chat_client import ChatClient
from onibus.consumers.language_models.failure_kinds import (
    ChatError,
    KeyRefusedError,
    MayPassError,
    ModelUnknownError,
    NotTakenError,
    TooLargeError,
)
from onibus.infra.broker.credentials import credentials_in
from onibus.infra.errors import OnibusError
from tests.consumers.chat_server import chat_server
from tests.ports import free_port

BODY = {"messages": [{"role": "user", "content": "You see here a key."}]}
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def _no_proxies_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def complete(url: str, times: int = 1, key: str = "secret-key", seconds: float = 20.0) -> Any:
    async def asked() -> Any:
        client = ChatClient(url, key, seconds)
        try:
            for _ in range(times):
                completion = await client.complete(BODY)
            return completion
        finally:
            await client.close()

    return asyncio.run(asked())


@contextmanager
def bare_server(
    answer: Callable[[BaseHTTPRequestHandler], None], tls: ssl.SSLContext | None = None
) -> Iterator[int]:
    """A server that does with a POST what ``answer`` does; its port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            answer(self)

        do_CONNECT = do_POST  # noqa: N815 — the name that the library looks for

        def log_message(self, *_: object) -> None:
            """Not on the tests' screen."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def bare_socket(sent: bytes | None) -> Iterator[int]:
    """A port where each connection gets ``sent`` and is closed; None: where nothing listens."""
    if sent is None:
        yield free_port()
        return

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65_536)
            self.request.sendall(sent)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def send(handler: BaseHTTPRequestHandler, body: bytes, length: int | None = None) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    handler.end_headers()
    handler.wfile.write(body)


@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        (400, NotTakenError, "status 4xx"),
        (401, KeyRefusedError, "status 4xx"),
        (403, KeyRefusedError, "status 4xx"),
        (404, ModelUnknownError, "status 4xx"),
        (408, MayPassError, "status 4xx"),
        (413, TooLargeError, "status 4xx"),
        (422, NotTakenError, "status 4xx"),
        (451, NotTakenError, "status 4xx"),
        (429, MayPassError, "too many requests"),
        (500, MayPassError, "status 5xx"),
        (503, MayPassError, "status 5xx"),
        (300, MayPassError, "status 3xx"),
    ],
)
def test_every_status_has_its_kind_and_what_the_server_says_is_one_line(
    status: int, kind: type[ChatError], reason: str
) -> None:
    body = {"error": {"message": "not\n today", "type": "x"}}
    with (
        chat_server(lambda _: (status, body), headers={"Retry-After": "7"}) as server,
        pytest.raises(kind) as caught,
    ):
        complete(server.url)
    assert str(caught.value) == f"status {status}: not today"
    assert (caught.value.reason, caught.value.retry_after) == (reason, 7)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"error": "boom"}, "boom"),
        ({"detail": [{"msg": "missing"}]}, "[{'msg': 'missing'}]"),
        ({"object": "error", "message": "no"}, "no"),
        ({}, "{}"),
        ("x" * 5_000, None),
        ({"error": "half a character: \ud83d"}, "half a character: ?"),
    ],
)
def test_what_is_wrong_is_found_in_every_server_s_words(body: Any, said: str | None) -> None:
    with chat_server(lambda _: (500, body)) as server, pytest.raises(MayPassError) as caught:
        complete(server.url)
    assert len(str(caught.value)) <= 300
    assert said is None or str(caught.value) == f"status 500: {said}"
    str(caught.value).encode()


@pytest.mark.parametrize("length", [None, 100])
def test_a_body_that_is_no_json_or_breaks_off_may_pass(length: int | None) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        send(handler, b'{"choices": \xff', length)
        handler.close_connection = True

    with bare_server(answer) as port, pytest.raises(MayPassError) as caught:
        complete(f"http://127.0.0.1:{port}/v1")
    assert caught.value.reason == ("no completion" if length is None else "no connection")


def test_nobody_listening_and_nobody_answering_may_pass_and_are_told_apart() -> None:
    with pytest.raises(MayPassError) as caught:
        complete(f"http://127.0.0.1:{free_port()}/v1")
    assert caught.value.reason == "no connection"
    hang = threading.Event()
    with bare_server(lambda _: hang.wait(20) and None) as port:
        with pytest.raises(MayPassError, match=r"no answer within 0\.2 s") as caught:
            complete(f"http://127.0.0.1:{port}/v1", seconds=0.2)
        hang.set()
    assert caught.value.reason == "time-out"


@pytest.mark.parametrize(
    ("scheme", "host", "sent", "said"),
    [
        ("http", "127.0.0.1", None, "nothing listens at 127.0.0.1:{port}; is the server started"),
        ("http", "localhost", None, "nothing listens at localhost:{port}; is the server started"),
        ("http", "no-such.invalid", None, "no host is called no-such.invalid as far as this machine knows"),
        ("http", "127.0.0.1", b"", "127.0.0.1:{port} cut the connection before its answer was whole"),
        ("http", "127.0.0.1", b"SSH-2.0-x\r\n", "127.0.0.1:{port} does not answer in HTTP (Bad status line)"),
        ("https", "127.0.0.1", b"HTTP/1.1 400 no\r\n", "127.0.0.1:{port} does not speak TLS as expected"),
    ],
)  # fmt: skip
def test_a_connection_that_fails_names_its_host_and_says_what_to_check(
    scheme: str, host: str, sent: bytes | None, said: str
) -> None:
    with bare_socket(sent) as port, pytest.raises(MayPassError) as caught:
        complete(f"{scheme}://{host}:{port}/v1")
    assert str(caught.value).startswith(said.format(port=port))
    assert "Cannot connect" not in str(caught.value)
    assert "None" not in str(caught.value)


def test_a_proxy_that_cannot_be_reached_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("HTTP_PROXY", proxy)
    with pytest.raises(MayPassError, match=rf"the proxy {proxy}/? cannot be reached.*HTTP\(S\)_PROXY"):
        complete("http://model.invalid:8000/v1")


def test_requests_one_after_the_other_share_a_connection() -> None:
    ports = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        ports.append(handler.client_address[1])
        send(handler, b"{}")

    with bare_server(answer) as port:
        complete(f"http://127.0.0.1:{port}/v1/", times=3)
    assert len(ports) == 3
    assert len(set(ports)) == 1


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "ALL_PROXY"])
def test_the_environment_s_proxy_is_gone_through_with_its_password(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        seen.append((handler.path, handler.headers["Proxy-Authorization"], handler.headers["Authorization"]))
        send(handler, b"{}")

    with bare_server(answer) as port:
        monkeypatch.setenv(name, f"http://user:p%40ss@127.0.0.1:{port}")
        complete("http://model.invalid:8000/v1")
    path, proxy_key, key = seen[0]
    assert path == "http://model.invalid:8000/v1/chat/completions"
    assert (proxy_key, key) == ("Basic dXNlcjpwQHNz", "Bearer secret-key")


def test_a_proxy_that_tunnels_sees_its_own_password_and_never_the_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []

    def refuse(handler: BaseHTTPRequestHandler) -> None:
        seen.append((handler.command, handler.path, list(handler.headers.items())))
        handler.send_error(502)

    with bare_server(refuse) as port:
        monkeypatch.setenv("HTTPS_PROXY", f"user:pass@127.0.0.1:{port}")
        with pytest.raises(MayPassError):
            complete("https://model.invalid/v1")
    command, path, headers = seen[0]
    assert (command, path) == ("CONNECT", "model.invalid:443")
    assert dict(headers)["Proxy-Authorization"] == "Basic dXNlcjpwYXNz"
    assert "secret-key" not in str(headers)


def test_no_proxy_is_gone_through_for_a_host_that_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    with chat_server(lambda _: (200, "yes")) as server:
        with pytest.raises(MayPassError):
            complete(server.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        complete(server.url)
    assert len(server.requests) == 1


def test_a_proxy_of_another_sort_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    with pytest.raises(OnibusError, match="proxies at http"):
        complete("http://127.0.0.1:1/v1")


def test_another_s_password_in_netrc_does_not_replace_the_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with chat_server(lambda _: (200, "yes")) as server:
        complete(server.url)
    assert server.keys == {"Bearer secret-key"}


def test_a_key_s_last_line_break_is_not_of_it_and_one_that_no_key_has_is_said() -> None:
    with chat_server(lambda _: (200, "yes")) as server:
        complete(server.url, key="secret-key\n")
        for key in ("secret\nkey", "sécret"):
            with pytest.raises(OnibusError, match="OPENAI_API_KEY") as caught:
                complete(server.url, key=key)
            assert key not in str(caught.value)
    assert server.keys == {"Bearer secret-key"}


def test_a_password_in_the_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(OnibusError, match="OPENAI_API_KEY") as caught:
        complete("http://user:pass-word@127.0.0.1:1/v1")
    assert "pass-word" not in str(caught.value)


def test_certificates_that_the_environment_names_are_trusted_and_others_are_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    credentials = credentials_in(tmp_path / "tls", "127.0.0.1")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(credentials.key_and_certificate)
    with bare_server(lambda handler: send(handler, b"{}"), tls) as port:
        url = f"https://127.0.0.1:{port}/v1"
        with pytest.raises(MayPassError, match=r"certificate.*SSL_CERT_FILE"):
            complete(url)
        monkeypatch.setenv("SSL_CERT_FILE", str(credentials.ca))
        assert complete(url) == {}
