"""Detects from the broker's responses that the clock of this machine is wrong."""

from __future__ import annotations

import logging
import time

from kafka.errors import InvalidRecordError, InvalidTimestampError

from onibus.infra.files import reason_of

_log = logging.getLogger(__name__)

_REFUSED_TIME = "InvalidRecordError: Timestamp "
MOST_SECONDS_APART = 300.0
"""A record may wait two minutes for an unavailable broker; a larger difference comes from the clock."""


def explained(error: BaseException) -> str:
    """The message for an error of a Kafka client; if the broker rejected a time, it is about the clock."""
    if any(_is_about_time(one) for one in (error, *error.args)):
        return (
            "the broker rejects the time of this machine's clock, which is far from its own: set the clock, "
            "or let the broker set the topic's times (see: onibus topics check)"
        )
    return reason_of(error)


def _is_about_time(error: object) -> bool:
    """For several records in a batch, kafka-python says only in the message that their time is the reason."""
    if isinstance(error, InvalidRecordError):
        return str(error).partition("] ")[2].startswith(_REFUSED_TIME)
    return isinstance(error, InvalidTimestampError)


class ClockWatch:
    """Compares this machine's clock with the times that the broker gives records; warns once per change."""

    def __init__(self) -> None:
        self._is_apart = False

    def see(self, written_ms: int) -> None:
        """A record was just written, at this time by the broker's clock (milliseconds since the epoch).

        On a topic whose records keep the producer's time, the two agree, so nothing is detected.
        """
        ahead = time.time() - written_ms / 1000
        is_apart = abs(ahead) > MOST_SECONDS_APART
        if is_apart and not self._is_apart:
            _log.warning(
                "this machine's clock is %s %s the broker's: ages and latencies are wrong; set the clock",
                _duration(abs(ahead)), "ahead of" if ahead > 0 else "behind",
            )  # fmt: skip
        self._is_apart = is_apart


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86_400), ("hours", 3_600)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 60:.0f} minutes"
