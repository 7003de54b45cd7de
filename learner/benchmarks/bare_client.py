"""What an annotator is held against: the same requests from an asyncio client with nothing around it.

With aiohttp, which annotators ask with, so that the difference is what they do besides; and with httpx, which
most clients of language models are built on.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, NamedTuple

import aiohttp
import httpx

from onibus.consumers.specs.prompts import Prompt
from onibus.learner.benchmarks.fresh_process import in_a_fresh_process

_REQUEST_SECONDS = 30.0

Body = Mapping[str, Any]


class TimedRequests(NamedTuple):
    """How long all requests took, and how much of a processor."""

    seconds: float
    cpu_seconds: float


Client = Callable[[str, Sequence[Body], int], Coroutine[Any, Any, TimedRequests]]


def request_bodies(prompt: Prompt, model: str, captions: Sequence[str], **further: Any) -> list[Body]:
    """The requests that an annotator makes of these captions."""
    return [
        {"model": model, "messages": [{"role": "user", "content": prompt.text(caption)}], **further}
        for caption in captions
    ]


def in_a_process(ask: Client, url: str, bodies: Sequence[Body], concurrency: int) -> TimedRequests:
    """Ask in a process of its own, as an annotator does: the server may be a thread of this one."""
    return in_a_fresh_process(_run, ask, url, bodies, concurrency)


def _run(ask: Client, url: str, bodies: Sequence[Body], concurrency: int) -> TimedRequests:
    return asyncio.run(ask(url, bodies, concurrency))


async def ask_with_aiohttp(url: str, bodies: Sequence[Body], concurrency: int) -> TimedRequests:
    """Post all bodies, so many at a time.

    Raises:
        aiohttp.ClientError: the server does not answer, or refuses.
    """
    connector, patience = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=_REQUEST_SECONDS)
    async with aiohttp.ClientSession(connector=connector, timeout=patience, raise_for_status=True) as client:

        async def post(body: Body) -> object:
            async with client.post(url, json=body) as response:
                return json.loads(await response.read())

        return await _ask_all(post, bodies, concurrency)


async def ask_with_httpx(url: str, bodies: Sequence[Body], concurrency: int) -> TimedRequests:
    """The same with httpx.

    Raises:
        httpx.HTTPError: the server does not answer, or refuses.
    """
    limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    async with httpx.AsyncClient(limits=limits, timeout=_REQUEST_SECONDS, trust_env=False) as client:

        async def post(body: Body) -> object:
            response = await client.post(url, json=body)
            response.raise_for_status()
            return response.json()

        return await _ask_all(post, bodies, concurrency)


async def _ask_all(
    post: Callable[[Body], Awaitable[object]], bodies: Sequence[Body], concurrency: int
) -> TimedRequests:
    left = iter(bodies)

    async def ask_on() -> None:
        for body in left:
            await post(body)

    began, cpu = time.perf_counter(), time.thread_time()
    await asyncio.gather(*(ask_on() for _ in range(concurrency)))
    return TimedRequests(time.perf_counter() - began, time.thread_time() - cpu)
