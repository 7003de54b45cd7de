"""The captions that a new one can be compared with, and which of them it is.

A caption is compared with a few of lesser id: those for which a hash of the two is least. So of two captions
it is always the same one that leads to their comparison, whoever asks and whenever: no pair is ever judged
in two partitions, whatever anyone has read of the log. How many comparisons a caption has led to stands in
the labels (:mod:`~onibus.consumers.annotator.comparison_labels`), so it does not matter either that
annotators, or the same one after a restart, have other captions at hand.

And since every caption but the one of least id is joined to one of lesser id, at the latest when it comes up
again, all comparisons together are one connected graph, which a Bradley-Terry model needs: of two captions
that no chain of comparisons joins, it cannot say which is the better.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from onibus.schemas.ids import order_of, pair_id

LONGEST_PARTNER = 2_000
"""Bytes of a caption record; a longer one is compared with others, but no other with it."""

_SPARE = 1.25
"""The pool is cut back to its capacity when it is this much larger, so that cutting is rare."""


class Partner(NamedTuple):
    """A caption of the pool and where it stands on the log."""

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
    """A sample of the captions of all partitions.

    Args:
        capacity: of more, those with the least ids stay: ids are hashes, so it is a fair sample. At most
            ``capacity * 1.25 * LONGEST_PARTNER`` bytes of text: 50 MB.
    """

    def __init__(self, capacity: int = 20_000) -> None:
        self._capacity = capacity
        self._partners: list[Partner] = []
        self._ids = np.zeros(0, np.uint64)
        self._known: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._partners)

    def wants(self, caption_id: bytes) -> bool:
        """Whether this caption's record is worth decoding."""
        return caption_id not in self._known

    def add(self, partners: Sequence[Partner]) -> None:
        """Take captions over; those that are there already stay as they are."""
        new = {
            partner.caption_id: partner for partner in reversed(partners) if self.wants(partner.caption_id)
        }
        self._known |= new.keys()
        self._partners += new.values()
        self._ids = np.concatenate([self._ids, _words(list(new))])
        if len(self._partners) > self._capacity * _SPARE:
            self._cut_back()

    def pairs(self, caption_id: bytes, text: str, most: int) -> list[Pair]:
        """The up to ``most`` pairs that a caption leads to."""
        mine = np.uint64(order_of(caption_id))
        lesser = np.flatnonzero(self._ids < mine)
        if not lesser.size:
            return []
        draw = _mixed(self._ids[lesser], mine)
        least = np.argpartition(draw, min(most, draw.size) - 1)[:most]
        chosen = lesser[least[np.argsort(draw[least], kind="stable")]]
        return [_pair(caption_id, text, self._partners[number]) for number in chosen]

    def _cut_back(self) -> None:
        kept = np.sort(np.argpartition(self._ids, self._capacity)[: self._capacity])
        self._partners = [self._partners[number] for number in kept]
        self._ids = self._ids[kept]
        self._known = {partner.caption_id for partner in self._partners}


def _pair(caption_id: bytes, text: str, partner: Partner) -> Pair:
    """The pair in one of its two orders; which one follows from a hash.

    Half of all pairs show the leading caption first, so what a judge prefers by position alone shows. (An
    onibus of before, which had the later caption lead, showed each pair the other way round. So none of its
    pairs has the id of one of ours, which may stand in another partition.)
    """
    one, other = np.array([order_of(caption_id)], np.uint64), np.uint64(order_of(partner.caption_id))
    toss = int(_mixed(one, other)[0]) >> 63
    if toss != (caption_id < partner.caption_id):
        return Pair(pair_id(caption_id, partner.caption_id), text, partner.text, partner)
    return Pair(pair_id(partner.caption_id, caption_id), partner.text, text, partner)


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
