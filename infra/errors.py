"""The one exception that is meant for the user, and what it says of a name that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class OnibusError(Exception):
    """Something the user can fix. The message is one line: what, why, what to do.

    The ``onibus`` command prints it without a traceback and exits with 2.
    """


def did_you_mean(given: str, known: Iterable[str], otherwise: str, most: int = 1) -> str:
    """``did you mean NAME?``: up to ``most`` of the known that are like ``given``; else ``otherwise``."""
    close = difflib.get_close_matches(given, list(known), n=most, cutoff=0.75)
    return f"did you mean {' or '.join(close)}?" if close else otherwise
