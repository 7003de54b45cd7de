"""The seeds of a registered task's episodes; for NetHack's see :mod:`onibus.producers.nethack.seeding`."""

from __future__ import annotations

import struct
from hashlib import blake2b

_SEED_BITS = (1 << 31) - 1  # some environments take no more


def episode_seed(base: int, worker: int, environment: int, episode: int) -> int:
    """Seed of one episode, 0 … 2³¹-1: the same on every machine, unrelated for any two (BLAKE2b)."""
    place = struct.pack("<4q", base & ((1 << 63) - 1), worker, environment, episode)
    digest = blake2b(place, digest_size=8, person=b"onibus-seed").digest()
    return int.from_bytes(digest, "little") & _SEED_BITS
