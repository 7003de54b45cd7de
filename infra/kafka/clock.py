"""What a wrong clock on this machine does to records, named when the broker's answers show it."""

from __future__ import annotations

import logging
import time

from kafka.errors import InvalidRecordError, InvalidTimestampError

_log = logging.getLogger(__name__)

_REFUSED_TIME = "InvalidRecordError: Timestamp "
MOST_SECONDS_APART = 300.0
"""A record may wait two minutes for a broker that is away; a difference beyond this is the clock's."""


def explained(error: BaseException) -> str:
    """What to print of an error of a Kafka client: the clock, if the broker refuses its time."""
    if any(_is_about_time(one) for one in (error, *error.args)):
        return (
            "the broker refuses the time of this machine's clock, which is far from its own: set the clock, "
            "or give the topic the broker's time (see: onibus topics check)"
        )
    return str(error) or type(error).__name__


def _is_about_time(error: object) -> bool:
    """Of several records in a batch, kafka-python says only in words that it was their time."""
    if isinstance(error, InvalidRecordError):
        return str(error).partition("] ")[2].startswith(_REFUSED_TIME)
    return isinstance(error, InvalidTimestampError)


class ClockWatch:
    """Compares this machine's clock with the times that the broker gives to records; warns once a change."""

    def __init__(self) -> None:
        self._is_apart = False

    def see(self, written_ms: int) -> None:
        """A record has just been written, at this time by the broker's clock (milliseconds since the epoch).

        On a topic whose records keep the producer's time, that says nothing, and is not far off.
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
