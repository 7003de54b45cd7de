"""What an annotator is held against: the same requests from an asyncio client with nothing around it.

With aiohttp, which annotators ask with, so that the difference is what they do besides; and with httpx, which
most clients of language models are built on.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

import aiohttp
import httpx

from onibus.learner.benchmarks.fresh_process import in_a_fresh_process

_REQUEST_SECONDS = 30.0

Post = Callable[[Any], Awaitable[object]]


class TimedRequests(NamedTuple):
    """How long all requests took, and how much of a processor."""

    seconds: float
    cpu_seconds: float


def in_a_process(
    ask: Callable[[str, Sequence[Mapping[str, Any]], int], TimedRequests],
    url: str,
    bodies: Sequence[Mapping[str, Any]],
    concurrency: int,
) -> TimedRequests:
    """Ask in a process of its own, as an annotator does: the server may be a thread of this one."""
    return in_a_fresh_process(ask, url, bodies, concurrency)


def ask_with_aiohttp(url: str, bodies: Sequence[Mapping[str, Any]], concurrency: int) -> TimedRequests:
    """Post all bodies, so many at a time.

    Raises:
        aiohttp.ClientError: the server does not answer, or refuses.
    """

    async def ask_all() -> TimedRequests:
        connector, patience = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=_REQUEST_SECONDS)
        async with aiohttp.ClientSession(
            connector=connector, timeout=patience, raise_for_status=True
        ) as client:

            async def post(body: Any) -> object:
                async with client.post(url, json=body) as response:
                    return json.loads(await response.read())

            return await _ask_all(post, bodies, concurrency)

    return asyncio.run(ask_all())


def ask_with_httpx(url: str, bodies: Sequence[Mapping[str, Any]], concurrency: int) -> TimedRequests:
    """The same with httpx.

    Raises:
        httpx.HTTPError: the server does not answer, or refuses.
    """

    async def ask_all() -> TimedRequests:
        limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
        async with httpx.AsyncClient(limits=limits, timeout=_REQUEST_SECONDS, trust_env=False) as client:

            async def post(body: Any) -> object:
                response = await client.post(url, json=body)
                response.raise_for_status()
                return response.json()

            return await _ask_all(post, bodies, concurrency)

    return asyncio.run(ask_all())


async def _ask_all(post: Post, bodies: Sequence[Any], concurrency: int) -> TimedRequests:
    left = iter(bodies)

    async def ask_on() -> None:
        for body in left:
            await post(body)

    began, cpu = time.perf_counter(), time.thread_time()
    await asyncio.gather(*(ask_on() for _ in range(concurrency)))
    return TimedRequests(time.perf_counter() - began, time.thread_time() - cpu)
