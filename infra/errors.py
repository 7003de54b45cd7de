"""The one exception that is meant for the user."""

from __future__ import annotations


class OnibusError(Exception):
    """Something the user can fix. The message is one line: what, why, what to do.

    The ``onibus`` command prints it without a traceback and exits with 2.
    """
