"""Stops asking a server that does not answer, and sends single probes until it does.

The circuit breaker of M. Nygard, "Release It!" (2007): many requests that time out one after the other keep a
server that is just coming back from coming back, and tell nothing that one request would not tell.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from onibus.infra.observability import metrics

_log = logging.getLogger(__name__)

T = TypeVar("T")

OPENS_AFTER = 10
"""Failures in a row, over all requests. A server that fails on one request in five gets there once in ten
million requests."""
FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 15.0


def pause_seconds(failures: int, at_least: float = 0.0) -> float:
    """How long to wait after so many failures: doubling, up to a limit, with jitter.

    Args:
        at_least: what the server asked for.
    """
    longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(failures, 30))
    return max(at_least, longest * random.uniform(0.5, 1.0))


class Circuit:
    """Shared by all requests to one server; used on one asyncio loop.

    Args:
        server: its name in the log.
        failures: what a request raises when the server does not answer, or not in a way that says anything.
        asked_for: seconds that it asked, by such a failure, to be left alone.
        probe: asks a question that the server answers when it is well; without one, whichever request comes
            first is the probe, and may be one that always fails.
        opens_after: failures in a row after which nothing but probes is sent.
        sleep: waits before a probe.
    """

    def __init__(
        self,
        server: str,
        failures: tuple[type[Exception], ...],
        asked_for: Callable[[Exception], float] = lambda _: 0.0,
        probe: Callable[[], Awaitable[object]] | None = None,
        opens_after: int = OPENS_AFTER,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._server, self._failures, self._asked_for = server, failures, asked_for
        self._probe, self._opens_after, self._sleep = probe, opens_after, sleep
        self._in_a_row = self._probes = 0
        self._at_least = 0.0
        self._opened_at: float | None = None
        self._probing = asyncio.Lock()

    @property
    def is_open(self) -> bool:
        """Whether nothing but probes is sent."""
        return self._opened_at is not None

    async def send(self, request: Callable[[], Awaitable[T]]) -> T:
        """Send a request, at once or when the server answers again; raises what it or the probe raises."""
        while self.is_open:
            async with self._probing:
                if self.is_open:  # else the probe before this one was answered
                    await self._sleep(pause_seconds(self._probes + 2, self._at_least))
                    self._probes += 1
                    if self._probe is None:
                        return await self._watched(request)
                    await self._watched(self._probe)
        return await self._watched(request)

    def close(self) -> None:
        """No more is sent: the metric counts servers that are asked."""
        if self.is_open:
            self._opened_at = None
            metrics.MODEL_CIRCUIT_OPEN.dec()

    async def _watched(self, request: Callable[[], Awaitable[T]]) -> T:
        try:
            result = await request()
        except self._failures as error:
            self._failed(error)
            raise
        except Exception:  # an answer, if not the one hoped for
            self._answered()
            raise
        self._answered()
        return result

    def _answered(self) -> None:
        self._in_a_row = 0
        if self._opened_at is None:
            return
        away = time.monotonic() - self._opened_at
        _log.info(
            "%s answers again after %.0f s, %d probes; asking goes on", self._server, away, self._probes
        )
        self._opened_at, self._probes, self._at_least = None, 0, 0.0
        metrics.MODEL_CIRCUIT_OPEN.dec()

    def _failed(self, error: Exception) -> None:
        self._in_a_row += 1
        self._at_least = self._asked_for(error)
        if self.is_open or self._in_a_row < self._opens_after:
            return
        self._opened_at = time.monotonic()
        _log.warning(
            "%s failed %d requests in a row, last: %s; asking stops but for a probe now and then",
            self._server,
            self._in_a_row,
            error,
        )
        metrics.MODEL_CIRCUIT_OPEN.inc()
        metrics.MODEL_CIRCUIT_OPENED.inc()
