"""The one way in which flags are given a time: a moment in ISO 8601, or so long ago."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from onibus.infra.errors import OnibusError

TIME_HELP = "2026-11-23T12:00 (UTC), or 30m, 2h, 1d for so long ago"
"""How a time is written, for help texts."""

_AGO = re.compile(r"(?P<number>\d{1,9})(?P<unit>[smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def parse_time(text: str, flag: str, *, else_accepted: str = "") -> datetime:
    """The time that ``text`` names, with a time zone: UTC unless it names another.

    Args:
        flag: what the text was given to, for the error.
        else_accepted: what the flag takes besides times, with examples.

    Raises:
        OnibusError: ``text`` is not such a time.
    """
    try:
        if ago := _AGO.fullmatch(text):
            return datetime.now(UTC) - timedelta(**{_UNITS[ago["unit"]]: int(ago["number"])})
        time = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise OnibusError(
            f"{flag} {text}: not understood; give a time such as 2026-11-23T12:00 (UTC), or 30m, 2h or 1d "
            f"for so long ago{else_accepted}"
        ) from error
    return time if time.tzinfo else time.replace(tzinfo=UTC)
