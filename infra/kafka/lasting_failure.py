"""A failure of the cluster that is reported when it lasts; one that passes by itself is not worth a line."""

from __future__ import annotations

import logging
import time

from onibus.infra.kafka.clients import explained
from onibus.infra.kafka.transient import is_transient
from onibus.infra.settings import Settings

QUIET_SECONDS = 30.0
"""A busy broker may take that long to answer; one that restarts is back by then."""


class LastingFailure:
    """What a thread that retries forever says of its failures: one line when they last, one when they end.

    What is not transient, or has lasted for :data:`QUIET_SECONDS`, is reported.

    Args:
        what: could not be done, for the log: "the cluster could not be looked at".

    Attributes:
        reason: why, with what to do about it, from when it is reported until it is over; otherwise None.
    """

    def __init__(self, settings: Settings, log: logging.Logger, what: str) -> None:
        self._settings, self._log, self._what = settings, log, what
        self._since: float | None = None
        self.reason: str | None = None

    @property
    def is_on(self) -> bool:
        """Whether the last attempt failed, reported or not."""
        return self._since is not None

    def failed(self, error: Exception) -> None:
        """An attempt has failed. Asks the cluster why, when it is time to report it."""
        now = time.monotonic()
        if self._since is None:
            self._since = now
        passes = is_transient(error) or (error.__cause__ is not None and is_transient(error.__cause__))
        if self.reason is None and not (passes and now - self._since < QUIET_SECONDS):
            self.reason = str(explained(self._settings, error))
            self._log.warning("%s, trying again: %s", self._what, self.reason)

    def passed(self) -> None:
        """An attempt has succeeded."""
        if self.reason is not None:
            self._log.info("%s; it works again", self._what)
        self._since = self.reason = None
