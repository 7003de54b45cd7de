"""How often, and after which pauses, a request to a server is sent again, and when it is given up.

Trouble that may pass (no one listens, time-outs, 429, 5xx) is waited out with growing pauses, for as long as
it takes; after some failures in a row all requests wait until the question of the start is answered
(:mod:`.circuit_breaker`). A request that fails again and again while others succeed, or that the server
refuses, is given up. A server that refuses the model, the key or the form of every request ends the annotator
(:mod:`.refusals`). What of an answer that cannot be read: :mod:`.ask_until_readable`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable

from onibus.consumers.language_models.ask_until_readable import Reply
from onibus.consumers.language_models.base import ModelRefusedError
from onibus.consumers.language_models.circuit_breaker import Circuit, pause_seconds
from onibus.consumers.language_models.failure_kinds import ChatError, MayPassError
from onibus.consumers.language_models.refusals import REFUSALS, RefusalCheck, is_about_this_request
from onibus.infra.observability import metrics

_log = logging.getLogger(__name__)

STRIKES = 10
"""How often a caption may fail while others succeed. A server that fails on one request in five gives up one
caption in ten million by mistake."""
_WARN_EVERY_SECONDS = 10.0

Send = Callable[[], Awaitable[Reply]]
"""Sends one request; raises a :class:`ChatError` if it is not answered."""
Explain = Callable[[ChatError], ModelRefusedError]
"""Makes the error to raise of a server's refusal of every request."""


class Retries:
    """Of all requests to one server; used on one asyncio loop.

    Args:
        url: of the server, for the log.
        concurrency: requests at a time.
        probe: sends the question of the start.
        sleep: waits between tries.

    Attributes:
        circuit: of all requests.
    """

    def __init__(
        self, url: str, concurrency: int, probe: Send, sleep: Callable[[float], Awaitable[None]]
    ) -> None:
        self._url, self._probe, self._sleep = url, probe, sleep
        self._free = asyncio.Semaphore(concurrency)
        self.circuit = Circuit(
            f"language model at {url}",
            (MayPassError,),
            lambda error: error.retry_after if isinstance(error, ChatError) else 0.0,
            self._ask_probe,
            sleep=sleep,
        )
        self._refusals = RefusalCheck(sleep)
        self._warn_at = 0.0

    async def reply(self, send: Send, example: Send, explain: Explain) -> Reply | str:
        """One answer; or, in one line, why this request will never get one.

        Args:
            send: sends the request.
            example: sends a request of its kind that a server takes which takes any.
            explain: see :data:`Explain`.

        Raises:
            ModelRefusedError: the server refuses every request.
        """
        failures, strikes, refused, successes = 0, 0, 0, self._refusals.answered
        while True:
            before = self._refusals.answered
            try:
                async with self._free:
                    reply = await self.circuit.send(lambda: _counted(send))
                self._refusals.answered += 1
                return reply
            except REFUSALS as error:
                if await self._refusals.concerns_one(lambda: self._when_free(example), explain, before):
                    refused += 1
                    if is_about_this_request(error, refused):
                        return f"the server refuses the request: {error}"
                pause = pause_seconds(failures)
            except MayPassError as error:
                if self._refusals.answered > successes:  # the server works for others
                    strikes, successes = strikes + 1, self._refusals.answered
                if strikes >= STRIKES:
                    return f"failed {failures + 1} times while others succeeded: {error}"
                self._warn(error)
                pause = pause_seconds(failures, error.retry_after)
            failures += 1
            await self._sleep(pause)

    def close(self) -> None:
        """No more is sent."""
        self.circuit.close()

    async def _when_free(self, send: Send) -> None:
        async with self._free:
            await send()

    async def _ask_probe(self) -> None:
        """Ask the question of the start. A refusal is an answer, too: the server is there."""
        with contextlib.suppress(*REFUSALS):
            await _counted(self._probe)
            self._refusals.answered += 1

    def _warn(self, error: MayPassError) -> None:
        if time.monotonic() > self._warn_at and not self.circuit.is_open:
            self._warn_at = time.monotonic() + _WARN_EVERY_SECONDS
            _log.warning("language model at %s: %s; trying again", self._url, error)


async def _counted(send: Send) -> Reply:
    try:
        return await send()
    except MayPassError as error:
        metrics.MODEL_FAILURES.labels(reason=error.reason).inc()
        raise
