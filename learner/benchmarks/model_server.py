"""A server that speaks chat completions, counts what it is asked, and fails in every way it is told."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
import zlib
from collections import Counter
from dataclasses import dataclass
from typing import Any

_HEAD_END = b"\r\n\r\n"


@dataclass
class Behaviour:
    """What the server does; may be changed at any time. Shares are of requests.

    Attributes:
        errors: share that is answered 500.
        garbage: share (the errors included) that is answered without a verdict.
        not_found: share (both included) that is answered 404.
        moderates: every so many-th caption is refused with 403, always the same ones; 0: none.
        thinks: thoughts alone come, cut at max_tokens.
    """

    latency_seconds: float = 0.02
    errors: float = 0.0
    garbage: float = 0.0
    not_found: float = 0.0
    moderates: int = 0
    thinks: bool = False
    hangs: bool = False

    def is_moderated(self, caption: str) -> bool:
        """Whether this caption is always refused."""
        return bool(self.moderates) and zlib.crc32(caption.encode()) % self.moderates == 1


class ModelServer:
    """Listens on loopback in a thread of its own.

    Attributes:
        answered: how often each caption was answered with a verdict.
        requests: how many requests came.
        at_once: requests that it works on at a time; others wait. None: all.
        first, last: when the first request came and the last answer went, by ``time.monotonic``.
    """

    def __init__(self, port: int, at_once: int | None = None) -> None:
        self.behaviour = Behaviour()
        self.answered: Counter[str] = Counter()
        self.requests = 0
        self.at_once = at_once
        self.first = self.last = 0.0
        self.url = f"http://127.0.0.1:{port}/v1"
        self._port = port
        self._luck = random.Random(1)
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._slots = asyncio.Semaphore(at_once or 1_000_000)
        self._connections: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="model-server", daemon=True)
        self._thread.start()
        self.up()

    def up(self) -> None:
        """Listen."""
        self._do(self._listen())

    def down(self) -> None:
        """Listen no more, and cut every connection."""
        self._do(self._cut())

    def stop(self) -> None:
        """For good."""
        self.down()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)

    def forget(self) -> None:
        """Begin to count anew."""
        self.answered.clear()
        self.requests, self.first, self.last = 0, 0.0, 0.0

    def _do(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port, backlog=512)

    async def _cut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._connections):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            while True:
                head = await reader.readuntil(_HEAD_END)
                length = next(
                    int(line.split(b":")[1])
                    for line in head.lower().split(b"\r\n")
                    if line.startswith(b"content-length:")
                )
                status, body = await self._reply(json.loads(await reader.readexactly(length)))
                data = json.dumps(body).encode()
                writer.write(
                    b"HTTP/1.1 %d x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                    % (status, len(data))
                )
                writer.write(data)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client is gone, killed perhaps
        finally:
            self._connections.discard(writer)
            writer.close()

    async def _reply(self, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.requests += 1
        self.first = self.first or time.monotonic()
        caption = json.loads(request["messages"][0]["content"].split("<message>")[1].split("</message>")[0])
        async with self._slots:
            await asyncio.sleep(self.behaviour.latency_seconds)
        while self.behaviour.hangs:
            await asyncio.sleep(0.1)
        luck = self._luck.random()
        if luck < self.behaviour.errors:
            return 500, {"error": {"message": "out of luck"}}
        if luck < self.behaviour.garbage:
            return 200, _completion("Well, it depends on many things.")
        if luck < self.behaviour.not_found:
            return 404, {"error": {"message": "no such route"}}
        if self.behaviour.is_moderated(caption):
            return 403, {"error": {"message": "moderated"}}
        if self.behaviour.thinks:
            return 200, _completion(None, thoughts="Is it helpful? The player may", finish_reason="length")
        self.answered[caption] += 1
        self.last = time.monotonic()
        verdict = "helpful" if zlib.crc32(caption.encode()) % 3 == 0 else "unhelpful"
        return 200, _completion(f"analysis: it is what it is.\nverdict: {verdict}")


def _completion(text: str | None, thoughts: str = "", finish_reason: str = "stop") -> dict[str, Any]:
    message = {"role": "assistant", "content": text} | ({"reasoning_content": thoughts} if thoughts else {})
    return {
        "id": "c", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "finish_reason": finish_reason, "message": message}],
        "usage": {"prompt_tokens": 200, "completion_tokens": 15, "total_tokens": 215},
    }  # fmt: skip
