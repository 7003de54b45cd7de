"""Ids: the bytes that identify a caption, a subject, a specification, a label.

All are BLAKE2b digests of exactly defined bytes, so every process on every machine computes the same
ones independently.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import blake2b

from onibus.schemas.records import AnnotationSpec, EpisodeFinished

CAPTION_ID_BYTES = 16
SUBJECT_ID_BYTES = 16
SPEC_ID_BYTES = 8
LABEL_KEY_BYTES = SPEC_ID_BYTES + SUBJECT_ID_BYTES
_PAIR = 2

NO_CAPTION = 0
"""The int64 that stands for "the game showed nothing" in observations; it never has a label."""
INSTEAD_OF_NO_CAPTION = 1
"""The look-up id of a subject whose bytes would give :data:`NO_CAPTION`."""


def caption_id(text: str) -> bytes:
    """16-byte id of a caption: BLAKE2b-128 of its UTF-8 bytes."""
    return blake2b(text.encode(), digest_size=CAPTION_ID_BYTES).digest()


def caption_partition(caption_id: bytes, partitions: int) -> int:
    """Partition of a caption (and of its labels): the same for producers with any client library."""
    return int.from_bytes(caption_id[8:16], "little") % partitions


def pair_id(first: bytes, second: bytes) -> bytes:
    """16-byte subject id of an ordered pair of caption ids.

    Raises:
        ValueError: an id does not have 16 bytes.
    """
    if len(first) != CAPTION_ID_BYTES or len(second) != CAPTION_ID_BYTES:
        raise ValueError("a pair is made of two caption ids of 16 bytes each")
    return blake2b(first + second, digest_size=SUBJECT_ID_BYTES, person=b"onibus-pair").digest()


def order_of(caption_id: bytes) -> int:
    """Where a caption stands in the order of all captions: its first 8 bytes, little endian, unsigned."""
    return int.from_bytes(caption_id[:8], "little")


def leader_of(texts: Sequence[str]) -> bytes | None:
    """Of two captions, the id of the one that leads to their comparison, the greater; None for one caption.

    Every pair has one leader whoever asks and whenever, so a pair stands in one partition only.
    """
    return max(map(caption_id, texts), key=order_of) if len(texts) == _PAIR else None


def lookup_id(subject_id: bytes) -> int:
    """The int64 under which arrays hold a subject: its first 8 bytes, little endian, signed.

    Among a million captions, two share these 8 bytes with probability 3e-8. The one reserved value,
    :data:`NO_CAPTION`, is replaced.
    """
    return int.from_bytes(subject_id[:8], "little", signed=True) or INSTEAD_OF_NO_CAPTION


def spec_id(spec: AnnotationSpec) -> bytes:
    """8-byte id of everything in ``spec`` that can change an answer (all but ``name`` and ``created_at``)."""
    parts: dict[str, object] = {
        "goal": spec.goal,
        "kind": spec.kind.value,
        "template": spec.template,
        "parser": spec.parser,
        "model": spec.model,
        "model_revision": spec.model_revision,
        "sampling": spec.sampling,
    }
    if spec.messages:  # left out where there are none: specs without messages keep the ids they always had
        parts["messages"] = [[message.role, message.content] for message in spec.messages]
    canonical = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return blake2b(canonical.encode(), digest_size=SPEC_ID_BYTES, person=b"onibus-spec").digest()


def label_key(spec: bytes, subject: bytes) -> bytes:
    """24-byte key of a label: spec id, then subject id.

    Raises:
        ValueError: one of the two has a different size.
    """
    if len(spec) != SPEC_ID_BYTES or len(subject) != SUBJECT_ID_BYTES:
        raise ValueError("a label key is a spec id of 8 bytes and a subject id of 16")
    return spec + subject


def split_label_key(key: bytes) -> tuple[bytes, bytes]:
    """Spec id and subject id of a label key.

    Raises:
        ValueError: ``key`` does not have 24 bytes.
    """
    if len(key) != LABEL_KEY_BYTES:
        raise ValueError(f"a label key has {LABEL_KEY_BYTES} bytes, this one {len(key)}")
    return key[:SPEC_ID_BYTES], key[SPEC_ID_BYTES:]


def episode_key(record: EpisodeFinished) -> bytes:
    """Key on the ``episodes`` topic: run, worker, environment and episode."""
    return f"{record.run}/{record.worker}/{record.environment}/{record.episode}".encode()
