"""A small real HTTP server that speaks chat completions on loopback: faults that no model makes to order."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, str | dict[str, Any]]
"""Status, and either the text of an answer or a body as it is."""


class ChatServer:
    """Answers each request by ``reply(request body)``; counts and keeps what came.

    ``at_a_time``: for each request, how many there were when it came.
    """

    def __init__(self, reply: Callable[[dict[str, Any]], Reply], headers: Mapping[str, str]) -> None:
        self.reply, self.headers = reply, headers
        self.requests: list[dict[str, Any]] = []
        self.at_a_time: list[int] = []
        self.keys: set[str | None] = set()
        self.most_at_a_time = 0
        self._lock, self._now = threading.Lock(), 0
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with owner._lock:
                    owner._now += 1
                    owner.most_at_a_time = max(owner.most_at_a_time, owner._now)
                    owner.requests.append(body)
                    owner.at_a_time.append(owner._now)
                    owner.keys.add(self.headers.get("Authorization"))
                status, answer = owner.reply(body)
                with owner._lock:
                    owner._now -= 1
                data = json.dumps(completion(answer) if isinstance(answer, str) else answer).encode()
                try:
                    self.send_response(status)
                    self.send_header("Content-Type", "application/json")
                    for name, value in owner.headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)
                except OSError:
                    self.close_connection = True  # the client has given up, as some tests want

            def log_message(self, *_: object) -> None:
                """Not on the tests' screen."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def completion(text: str) -> dict[str, Any]:
    """The body of a chat completion whose answer is ``text``."""
    return {
        "id": "c", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        ],
        "usage": {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14},
    }  # fmt: skip


@contextmanager
def chat_server(
    reply: Callable[[dict[str, Any]], Reply], headers: Mapping[str, str] | None = None
) -> Iterator[ChatServer]:
    """A running server, stopped at the end; ``headers`` go with every reply."""
    server = ChatServer(reply, headers or {})
    server.start()
    try:
        yield server
    finally:
        server.stop()
