"""Reads caption records, and refuses what is none."""

from __future__ import annotations

from onibus.schemas import ids
from onibus.schemas.codec import Codec, DecodeError
from onibus.schemas.records import CaptionObserved

LONGEST_CAPTION = 100_000
"""Bytes of a caption record; a longer one is no message of the game and goes to the dead letters."""


def read_caption(codec: Codec, key: bytes | None, value: bytes | None) -> CaptionObserved:
    """The caption in a record.

    Raises:
        DecodeError: there is none, it is too long, or the key is not its id.
    """
    if value is not None and len(value) > LONGEST_CAPTION:
        raise DecodeError(f"a caption record of {len(value)} bytes, more than {LONGEST_CAPTION}")
    caption = codec.decode(CaptionObserved, value)
    if key != ids.caption_id(caption.text):
        raise DecodeError("the key is not the id of the caption")
    return caption
