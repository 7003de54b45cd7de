"""When the next transaction is worth its cost: at once where answers are few, later where they are many.

A transaction costs broker and annotator some 20 ms of processor time together, however little it writes. One
after the other they took more of it than the questions; a label that waits a quarter of a second while
hundreds are on their way misses no one.
"""

from __future__ import annotations

PAUSE_SECONDS = 0.01
"""From the beginning of a transaction to that of the next one, for each caption that it writes."""
LONGEST_PAUSE_SECONDS = 0.25
WORTH_WRITING = 200
"""Captions answered that are worth a transaction at any time."""


class Pacing:
    """Remembers the last transaction; times in seconds, by any clock that goes forward."""

    def __init__(self) -> None:
        self._due = 0.0

    def began(self, captions: int, now: float) -> None:
        """A transaction that writes the answers about so many captions has begun."""
        self._due = now + min(LONGEST_PAUSE_SECONDS, PAUSE_SECONDS * captions)

    def is_due(self, finished: int, now: float) -> bool:
        """Whether the next one may begin, with so many captions answered."""
        return finished >= WORTH_WRITING or now >= self._due
