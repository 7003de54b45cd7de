"""A schema registry in memory, on loopback, with the three requests that onibus makes."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class SmallRegistry:
    """Its address, the schemas in the order of their ids (from 1), and the subjects that were registered.

    While ``is_away`` every request is answered with status 503; ``refused`` counts them.
    """

    url: str = ""
    schemas: list[str] = field(default_factory=list)
    subjects: list[str] = field(default_factory=list)
    is_away: bool = False
    refused: int = 0

    def register(self, subject: str, schema: str) -> dict[str, Any]:
        self.subjects.append(subject)
        if schema not in self.schemas:
            self.schemas.append(schema)
        return {"id": self.schemas.index(schema) + 1}


@contextmanager
def small_registry() -> Iterator[SmallRegistry]:
    """A running registry without any schema."""
    registry = SmallRegistry()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, *rest = self.path.strip("/").split("/")[1:]
            self._answer(["AVRO"] if kind == "types" else {"schema": registry.schemas[int(rest[0]) - 1]})

        def do_POST(self) -> None:
            sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._answer(registry.register(self.path.split("/")[2], sent["schema"]))

        def _answer(self, content: object) -> None:
            body = json.dumps(content).encode()
            registry.refused += registry.is_away
            self.send_response(503 if registry.is_away else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Tests need no access log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    registry.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield registry
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
