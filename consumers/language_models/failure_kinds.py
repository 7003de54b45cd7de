"""Five kinds of failures of a language model's server, by HTTP status: what may pass, and what will not."""

from __future__ import annotations

import json
from collections.abc import Mapping

LONGEST_RETRY_AFTER_SECONDS = 120.0
_SHOWN = 300
_TOO_LARGE, _TOO_MANY = 413, 429


class ChatError(Exception):
    """No completion came. The message is one line.

    Attributes:
        reason: in a word or two, for a metric.
        retry_after: seconds that the server asks to be left alone; 0 if it does not say.
    """

    def __init__(self, line: str, reason: str = "", retry_after: float = 0.0) -> None:
        super().__init__(storable(" ".join(line.split())[:_SHOWN]))
        self.reason, self.retry_after = reason, retry_after


class KeyRefusedError(ChatError):
    """The server refuses the key: 401, 403."""


class ModelUnknownError(ChatError):
    """It has no such model, or nothing at this address: 404."""


class NotTakenError(ChatError):
    """It does not take such a request: 400, 422, 451, and every other 4xx that is not named here."""


class TooLargeError(ChatError):
    """The request is larger than it takes: 413."""


class MayPassError(ChatError):
    """It did not answer, or not in a way that says anything about the question: all the rest."""


class NoCompletionError(MayPassError):
    """It answered with something that is no completion."""

    def __init__(self, line: str) -> None:
        super().__init__(line, "no completion")


_KINDS: Mapping[int, type[ChatError]] = {
    401: KeyRefusedError,
    403: KeyRefusedError,
    404: ModelUnknownError,
    _TOO_LARGE: TooLargeError,
    408: MayPassError,  # request timeout
    409: MayPassError,  # conflict
    425: MayPassError,  # too early
    429: MayPassError,  # too many requests
}


def storable(text: str) -> str:
    """``text`` as UTF-8 can hold it: halves of characters, which JSON lets through, become question marks."""
    return text if text.isascii() else text.encode(errors="replace").decode()


def failure_of(status: int, text: bytes, retry_after: str) -> ChatError:
    """The failure that a status, a body and the header Retry-After describe."""
    reason = "too many requests" if status == _TOO_MANY else f"status {status // 100}xx"
    try:
        seconds = min(LONGEST_RETRY_AFTER_SECONDS, float(retry_after))
    except ValueError:  # a date, which no one sends
        seconds = 0.0
    kind = _KINDS.get(status, NotTakenError if 400 <= status < 500 else MayPassError)
    return kind(f"status {status}: {readable(text)}", reason, seconds)


def readable(body: bytes) -> str:
    """What a body says went wrong, or its beginning."""
    try:
        found = json.loads(body)
    except ValueError:
        found = body.decode(errors="replace")
    for name in ("error", "message", "detail"):
        if isinstance(found, dict) and found.get(name):
            found = found[name]
    return str(found)[:_SHOWN]
