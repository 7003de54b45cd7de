"""The captions that a new one can be compared with, and which of them it is.

A caption is compared with a few that came up before it: those for which a hash of the two is least. So its
partners follow from the captions on the log alone, whoever asks and how often; each pair has one caption
that leads to it, the later one, and belongs to that caption's partition. And since every caption is joined
to an earlier one, all comparisons together are one connected graph, which a Bradley-Terry model needs: of
two captions that no chain of comparisons joins, it cannot say which is the better.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from onibus.schemas.ids import lookup_id, pair_id

LONGEST_PARTNER = 2_000
"""Bytes of a caption record; a longer one is compared with others, but no other with it."""

_SPARE = 1.25
"""The pool is cut back to its capacity when it is this much larger, so that cutting is rare."""


class Partner(NamedTuple):
    """A caption of the pool and where it first stands on the log."""

    caption_id: bytes
    text: str
    partition: int
    offset: int


class Pair(NamedTuple):
    """Two captions in the order in which they are shown; ``subject_id`` names the pair in that order."""

    subject_id: bytes
    first: str
    second: str
    partner: Partner


class ComparisonPartners:
    """Captions of all partitions, each from its first record on.

    Args:
        capacity: of more, those with the least ids stay: ids are hashes, so it is a fair sample, and the
            same one for everybody. At most ``capacity * 1.25 * LONGEST_PARTNER`` bytes of text: 50 MB.
    """

    def __init__(self, capacity: int = 20_000) -> None:
        self._capacity = capacity
        self._partners: list[Partner] = []
        self._ids = np.zeros(0, np.uint64)
        self._since = np.zeros(0, np.int64)
        self._place: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._partners)

    def wants(self, caption_id: bytes) -> bool:
        """Whether this caption's record is worth decoding."""
        return caption_id not in self._place

    def add(self, partners: Sequence[Partner], since: Sequence[int]) -> None:
        """Take captions over; those that are there already stay as they are.

        Args:
            since: of each, when its first record was observed, microseconds since the epoch.
        """
        new: dict[bytes, tuple[Partner, int]] = {}
        for partner, time in zip(partners, since, strict=True):
            if self.wants(partner.caption_id):
                new.setdefault(partner.caption_id, (partner, time))
        self._place |= {caption_id: len(self._partners) + n for n, caption_id in enumerate(new)}
        self._partners += [partner for partner, _ in new.values()]
        self._ids = np.concatenate([self._ids, _words(list(new))])
        self._since = np.concatenate([self._since, np.array([time for _, time in new.values()], np.int64)])
        if len(self._partners) > self._capacity * _SPARE:
            self._cut_back()

    def pairs(self, caption_id: bytes, text: str, observed_at: int, most: int) -> list[Pair]:
        """The up to ``most`` pairs that a caption leads to.

        Args:
            observed_at: of the record at hand, microseconds; where the pool has its first one, that counts.
        """
        place = self._place.get(caption_id)
        since = observed_at if place is None else int(self._since[place])
        mine = _words([caption_id])[0]
        earlier = np.flatnonzero((self._since < since) | ((self._since == since) & (self._ids < mine)))
        if not earlier.size:
            return []
        draw = _mixed(self._ids[earlier], mine)
        least = np.argpartition(draw, min(most, draw.size) - 1)[:most]
        chosen = earlier[least[np.argsort(draw[least], kind="stable")]]
        return [_pair(caption_id, text, self._partners[number]) for number in chosen]

    def _cut_back(self) -> None:
        kept = np.sort(np.argpartition(self._ids, self._capacity)[: self._capacity])
        self._partners = [self._partners[number] for number in kept]
        self._ids, self._since = self._ids[kept], self._since[kept]
        self._place = {partner.caption_id: number for number, partner in enumerate(self._partners)}


def _pair(caption_id: bytes, text: str, partner: Partner) -> Pair:
    """The pair in one of its two orders; which one is a toss that everybody sees fall alike.

    Half of all pairs show the later caption first, so what a judge prefers by position alone shows.
    """
    one, other = lookup_id(caption_id), lookup_id(partner.caption_id)
    toss = int(_mixed(np.array([one & _WORD], np.uint64), np.uint64(other & _WORD))[0]) >> 63
    if toss == (caption_id < partner.caption_id):
        return Pair(pair_id(caption_id, partner.caption_id), text, partner.text, partner)
    return Pair(pair_id(partner.caption_id, caption_id), partner.text, text, partner)


_WORD = (1 << 64) - 1
_SHIFT = np.uint64(32)
_ODD = np.uint64(0x9FB21C651E98DF25)


def _mixed(ids: NDArray[np.uint64], with_id: np.uint64) -> NDArray[np.uint64]:
    """A hash of each pair of ids, the same in both orders: uint64 (n,). Ids are hashes already."""
    mixed = ids ^ with_id
    for _ in range(2):
        mixed = mixed ^ (mixed >> _SHIFT)
        mixed = mixed * _ODD
    return mixed ^ (mixed >> _SHIFT)


def _words(caption_ids: Sequence[bytes]) -> NDArray[np.uint64]:
    return np.frombuffer(b"".join(caption_ids), "<u8")[::2].copy()
