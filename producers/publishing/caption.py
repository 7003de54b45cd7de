"""A caption as it is published, whatever environment it comes from."""

from __future__ import annotations

from dataclasses import dataclass

from onibus.infra.captioner_names import MESSAGE

TABLE_CAPTIONS = 1 << 15
"""Captions that one table keeps (about 0.5 KiB each); the oldest make room for new ones."""


@dataclass(frozen=True, slots=True)
class Caption:
    """One caption: text, 16-byte id, and the int64 that observations and label tables use.

    ``captioner`` is what put it into words, as records name it.
    """

    text: str
    id: bytes
    lookup: int
    captioner: str = MESSAGE
