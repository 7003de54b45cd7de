"""What a group has spent, beside its committed offsets: a start adds up only what came since.

The offset of each partition of ``captions`` carries what the answers in the same partition of ``annotations``
cost up to an offset there. The partition's owner writes it in the transaction of a batch.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import NamedTuple

from kafka.structs import OffsetAndMetadata

from onibus.consumers.annotator.cost import Cost

_START = ";spent:"
_PARTS = 7


class SpentMark(NamedTuple):
    """What answers under some specs cost in a partition of the log.

    Attributes:
        specs: a hash of the specs' ids.
        offset: everything below it is in the sum.
        cost: tokens and prices; the rest of it is not kept.
    """

    specs: str
    offset: int
    cost: Cost

    @classmethod
    def parse(cls, text: str) -> SpentMark | None:
        """The one that ends an offset's metadata; None if there is none."""
        _, start, given = text.partition(_START)
        parts = given.split(",")
        if not start or len(parts) != _PARTS:
            return None
        try:
            offset, tokens_in, tokens_out, priced_in, priced_out = map(int, parts[1:6])
            usd = float(parts[6])
        except ValueError:
            return None
        cost = Cost(0, 0, tokens_in, tokens_out, 0.0, usd, priced_in, priced_out)
        return cls(parts[0], offset, cost)

    def text(self) -> str:
        """As it is appended to an offset's metadata."""
        cost = self.cost
        sums = (cost.tokens_in, cost.tokens_out, cost.priced_in, cost.priced_out, repr(cost.usd))
        return _START + ",".join(map(str, (self.specs, self.offset, *sums)))


def spent_of(committed: OffsetAndMetadata | None) -> str:
    """What of an offset's metadata is about what was spent, to be kept when the offset is set back."""
    _, start, given = (committed.metadata or "" if committed is not None else "").partition(_START)
    return start + given


def name_of(spec_ids: Iterable[bytes]) -> str:
    """The hash of these specs."""
    return blake2b(b"".join(sorted(spec_ids)), digest_size=8).hexdigest()
