"""The one format of times in flags: a time in ISO 8601, or how long ago it was."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from onibus.infra.errors import OnibusError

TIME_HELP = "2026-11-23T12:00 (UTC), or an age such as 30m, 2h, 1d"
"""The format of times, for help texts."""

_AGO = re.compile(r"(?P<number>\d{1,9})(?P<unit>[smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def parse_time(text: str, flag: str, *, else_accepted: str = "") -> datetime:
    """The time that ``text`` names, with a time zone: UTC unless it names another.

    Args:
        flag: the flag that the text was given to, for the error.
        else_accepted: what the flag accepts besides times, with examples.

    Raises:
        OnibusError: ``text`` is neither.
    """
    try:
        if ago := _AGO.fullmatch(text):
            return datetime.now(UTC) - timedelta(**{_UNITS[ago["unit"]]: int(ago["number"])})
        time = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise OnibusError(
            f"{flag} {text}: not understood; give a time such as 2026-11-23T12:00 (UTC), or an age such as "
            f"30m, 2h, 1d{else_accepted}"
        ) from error
    return time if time.tzinfo else time.replace(tzinfo=UTC)
