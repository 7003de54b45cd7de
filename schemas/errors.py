"""The two ways in which reading or writing a record can fail."""

from __future__ import annotations


class DecodeError(ValueError):
    """Bytes that are no record of the expected type; the message says why in one line."""


class RegistryError(Exception):
    """The schema registry cannot be asked, or refuses; the message is one line: what, why, what to do.

    No fault of the record: the same call may succeed later.
    """
