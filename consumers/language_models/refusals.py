"""Whether a server that refuses one request refuses all: it is asked the question of the start again.

The same status (401, 403, 404, 413) can mean a wrong key, a filter that refuses one text, or a proxy that is
being restarted. So what is refused while the question of the start is answered concerns the request. If that
question is refused, too, several times in a row, the server refuses everything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from onibus.consumers.language_models.base import ModelRefusedError
from onibus.consumers.language_models.circuit_breaker import pause_seconds
from onibus.consumers.language_models.failure_kinds import (
    ChatError,
    KeyRefusedError,
    ModelUnknownError,
    NotTakenError,
    TooLargeError,
)

REFUSALS = (KeyRefusedError, ModelUnknownError, NotTakenError, TooLargeError)
REFUSED_TRIES = 5
"""How often a caption may be refused as if by the key or the model while others are answered: a filter before
the server refuses always the same, a proxy that is restarted now this one, now that one."""
PROBES = 5
"""How often in a row the question of the start must be refused, too, before the server counts as refusing
everything: behind a proxy that gives one 404 in twenty, three in a row come up once in 8,000 checks, five
once in three million."""
FIRST_PROBES = 3
"""The same at the start, where a person waits for it: about a second."""


class RefusalCheck:
    """Finds out what a refusal concerns. One check at a time: further ones learn from its answer.

    Args:
        sleep: waits between probes.

    Attributes:
        answered: how many requests the server has answered; whoever gets an answer counts it here.
    """

    def __init__(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        self.answered = 0
        self._sleep = sleep
        self._one_at_a_time = asyncio.Lock()

    async def concerns_one(
        self,
        ask: Callable[[], Awaitable[object]],
        explain: Callable[[ChatError], ModelRefusedError],
        answered_before: int,
    ) -> bool:
        """Whether the server answers others; False also where it answers no one just now.

        Args:
            ask: sends the question of the start.
            explain: makes the error to raise of the server's refusal.
            answered_before: ``answered`` when the request that was refused was sent.

        Raises:
            ModelRefusedError: it refuses the question of the start :data:`PROBES` times in a row.
        """
        async with self._one_at_a_time:
            for probe in range(PROBES):
                if self.answered > answered_before:
                    return True
                try:
                    await ask()
                except REFUSALS as error:
                    if probe == PROBES - 1:
                        raise explain(error) from error
                    await self._sleep(pause_seconds(probe + 1))
                except ChatError:
                    return False
                else:
                    self.answered += 1
                    return True
            return self.answered > answered_before


def is_about_this_request(error: ChatError, refused: int) -> bool:
    """Whether a request is given up that was refused so often while others were answered."""
    return isinstance(error, NotTakenError | TooLargeError) or refused >= REFUSED_TRIES
