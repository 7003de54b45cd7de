"""The calendar in NetHack's luck, the one thing about an episode that no seed fixes.

NetHack looks at the local time when a game starts: a full moon and a Friday the 13th change the player's
luck, a new moon and the night change a few odds. So an episode plays the same only under the same sky.
"""

from __future__ import annotations

import time
from typing import NamedTuple

_NEW_MOON, _FULL_MOON = 0, 4
_FRIDAY = 4


class Luck(NamedTuple):
    """What of the calendar NetHack looks at."""

    moon: str
    """``full``, ``new`` or ``other``: the phases between make no difference."""
    friday_13th: bool
    night: bool

    def __str__(self) -> str:
        moon = f"a {self.moon} moon" if self.moon != "other" else "no full or new moon"
        return ", ".join(
            [moon, *["Friday the 13th"] * self.friday_13th, "at night" if self.night else "by day"]
        )


def luck_at(micros: int) -> Luck:
    """The luck of games that start at a time, microseconds since the epoch, by this machine's local time."""
    local = time.localtime(micros / 1e6)
    phase = moon_phase(local.tm_year, local.tm_yday - 1)
    moon = {_NEW_MOON: "new", _FULL_MOON: "full"}.get(phase, "other")
    friday_13th = local.tm_wday == _FRIDAY and local.tm_mday == 13
    return Luck(moon, friday_13th, night=local.tm_hour < 6 or local.tm_hour > 21)


def moon_phase(year: int, day_of_year: int) -> int:
    """Phase of the moon as NetHack reckons it, 0 (new) … 4 (full) … 7; the first day of a year is 0.

    A month is taken as 29.5 days; the epact is the age of the moon on the first day of the year.
    """
    golden_number = year % 19 + 1
    epact = (11 * golden_number + 18) % 30
    if (epact == 25 and golden_number > 11) or epact == 24:
        epact += 1
    return ((day_of_year + epact) * 6 + 11) % 177 // 22 & 7
