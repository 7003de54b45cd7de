"""An environment's share in the bus of its process."""

from __future__ import annotations

import os
from collections.abc import Callable

from onibus.producers.publishing.caption_publisher import RolloutBus


class SharedBus:
    """Asks for the process's bus when an environment first joins it, and again in a process forked since.

    Args:
        get: gives the bus, or None to publish nothing.
    """

    def __init__(self, get: Callable[[], RolloutBus | None]) -> None:
        self._get = get
        self._bus: RolloutBus | None = None
        self._process = -1

    def join(self) -> RolloutBus | None:
        """The bus of this process; None if nothing is published."""
        if self._process != os.getpid():
            self._process = os.getpid()
            self._bus = self._get()
            if self._bus is not None:
                self._bus.attach()
        return self._bus

    def leave(self) -> None:
        """Join no more; the last environment of the process waits for its records to be delivered."""
        if self._bus is not None and self._process == os.getpid():
            self._bus.detach()
        self._bus = None
