"""Who an annotator is to its group, and what a person is told when the group will not have it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from kafka.errors import (
    AuthorizationError,
    FencedInstanceIdError,
    GroupMaxSizeReachedError,
    InconsistentGroupProtocolError,
    InvalidGroupIdError,
    InvalidSessionTimeoutError,
)

from onibus.infra.errors import OnibusError
from onibus.infra.files import reason_of

_REFUSED = (
    AuthorizationError,
    GroupMaxSizeReachedError,
    InconsistentGroupProtocolError,
    InvalidGroupIdError,
    InvalidSessionTimeoutError,
)

STOP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Membership:
    """Who this annotator is.

    Attributes:
        group: consumer group, full name.
        name: its own name; unique in the group, for it is part of the transactional id.
        most_under_way: captions asked about at a time.
        session_timeout_ms: after how long without a sign of life others take over.
        is_static: a restarted member of this name gets its partitions back at once (KIP-345); until the
            session time-out no one else gets them.
        stop_seconds: how long it waits for answers to what was sent, when it is stopped.
    """

    group: str
    name: str
    most_under_way: int
    session_timeout_ms: int = 10_000
    is_static: bool = False
    stop_seconds: float = STOP_SECONDS

    def refusal(self, error: Exception) -> OnibusError | None:
        """What to tell the person who runs it, if ``error`` will not pass by itself."""
        if isinstance(error, FencedInstanceIdError):
            return self.not_alone()
        if isinstance(error, _REFUSED):
            return OnibusError(
                f"the cluster does not let {self.name} annotate in group {self.group}: "
                f"{reason_of(error)}; correct its ACLs or its group settings"
            )
        return None

    def not_alone(self) -> OnibusError:
        """Somebody else has this name."""
        return OnibusError(
            f"another annotator of group {self.group} is called {self.name} too; give each its own --name"
        )


class StopTime:
    """How much of the time for a stop is left. It begins when a stop is first seen, or the model refuses."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._deadline: float | None = None

    def seconds_left(self) -> float:
        """Of the time to wait for answers, at least 0; the stop has begun."""
        if self._deadline is None:
            self._deadline = time.monotonic() + self._seconds
        return max(0.0, self._deadline - time.monotonic())

    def left_until(self, deadline: float, stopping: threading.Event) -> float:
        """Seconds until then, or until the time for a stop that has begun is over."""
        left = deadline - time.monotonic()
        return min(left, self.seconds_left()) if stopping.is_set() else left
