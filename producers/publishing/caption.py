"""A caption as it is published, whatever environment it comes from."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from itertools import islice
from typing import Any

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


def make_room(table: dict[Any, Any], most: int = TABLE_CAPTIONS) -> None:
    """Take the oldest out of a table, an eighth at a time, if it has as many entries as it may have."""
    if len(table) >= most:
        for old in list(islice(table, max(1, most // 8))):
            del table[old]


def with_caption(checksum: int, step: int, caption_id: bytes) -> int:
    """A checksum of captions, and the caption (16-byte id) of one more step, counted from 1."""
    return zlib.crc32(caption_id, zlib.crc32(step.to_bytes(4, "little"), checksum))
