"""A partition's labels, with how many comparisons each caption has led to.

A caption leads to so many comparisons once, whatever it is compared with. What it has led to is counted from
the labels, each of which names the caption: so it holds over restarts, and whoever owns the partition.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from kafka.consumer.fetcher import ConsumerRecord
from numpy.typing import NDArray

from onibus.consumers.annotator.batch import lookups_of
from onibus.consumers.labels.hash_table import LabelStore
from onibus.consumers.labels.table import NO_LABEL, LabelTable
from onibus.consumers.labels.writer import LEADER
from onibus.schemas import ids
from onibus.schemas.codec import Codec, DecodeError
from onibus.schemas.records import Label

_MOST_COUNTED = 127
_NAMED = b"\x02"
"""Before the 16 bytes of a leader, which end the value: Avro's index of the branch that is not null."""
_TAIL = len(_NAMED) + ids.CAPTION_ID_BYTES


class ComparisonLabels(LabelTable):
    """A :class:`~onibus.consumers.labels.table.LabelTable` of one partition that counts comparisons.

    Args:
        comparing: ids of the specs that compare two; labels under others are not counted.
    """

    def __init__(self, codec: Codec | None = None, comparing: Collection[bytes] = ()) -> None:
        super().__init__(codec)
        self._led = {spec_id: LabelStore() for spec_id in comparing}
        self._ending_alike: set[bytes] = set()

    def comparisons(self, spec_id: bytes, captions: NDArray[np.int64]) -> NDArray[np.int8]:
        """How many labelled comparisons each caption has led to: int8 (n,), 127 for as many or more.

        Args:
            captions: look-up ids, int64 (n,).
        """
        return self._led[spec_id].get(captions)

    def apply(
        self,
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
        leaders: Sequence[bytes | None] = (),
    ) -> int:
        """As :meth:`LabelTable.apply`.

        Args:
            leaders: of withdrawn comparisons, by place, if they are known.
        """
        if self._led:
            for spec_id, changed in self._changes(keys, values, leaders).items():
                self._count(spec_id, changed)
        return super().apply(keys, values)

    def apply_records(self, records: Sequence[ConsumerRecord]) -> int:
        """As :meth:`apply`, records of the topic as they are."""
        leaders = [dict(r.headers).get(LEADER) for r in records] if self._led else ()
        return self.apply([r.key for r in records], [r.value for r in records], leaders)

    def _changes(
        self,
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
        leaders: Sequence[bytes | None],
    ) -> dict[bytes, dict[bytes, tuple[bool, bytes]]]:
        """By spec and pair: whether it has a label after these records, and its leader.

        Two captions can lead to one pair at a time. The first one counts, as it does where their records are
        applied one after the other.
        """
        found: dict[bytes, dict[bytes, tuple[bool, bytes]]] = {}
        for place, (key, value) in enumerate(zip(keys, values, strict=True)):
            if key is None or len(key) != ids.LABEL_KEY_BYTES or key[: ids.SPEC_ID_BYTES] not in self._led:
                continue
            named = leaders[place] if value is None and leaders else None
            leader = named if value is None else self._leader(value)
            if leader is not None and len(leader) == ids.CAPTION_ID_BYTES:
                spec_id, pair = ids.split_label_key(key)
                pairs = found.setdefault(spec_id, {})
                if value is None or not pairs.get(pair, (False,))[0]:
                    pairs[pair] = (value is not None, leader)
        return found

    def _count(self, spec_id: bytes, changed: dict[bytes, tuple[bool, bytes]]) -> None:
        before = self.verdicts(spec_id, lookups_of(list(changed))) != NO_LABEL
        after = np.array([is_labelled for is_labelled, _ in changed.values()])
        captions, places = np.unique(lookups_of([led for _, led in changed.values()]), return_inverse=True)
        more = np.zeros(captions.size, np.int64)
        np.add.at(more, places, after.astype(np.int64) - before)
        store = self._led[spec_id]
        store.set(captions, np.clip(store.get(captions) + more, 0, _MOST_COUNTED).astype(np.uint8))

    def _leader(self, value: bytes) -> bytes | None:
        """Read at its place in values that begin like one in which it was found there; others are decoded."""
        start = self._codec.header_of(Label, value)
        if start not in self._ending_alike:
            try:
                leader = self._codec.decode(Label, value).leader
            except DecodeError:
                return None
            if start is not None and leader is not None and value[-_TAIL:] == _NAMED + leader:
                self._ending_alike.add(start)
            return leader
        named = value[-_TAIL : -ids.CAPTION_ID_BYTES] == _NAMED
        return value[-ids.CAPTION_ID_BYTES :] if named else None
