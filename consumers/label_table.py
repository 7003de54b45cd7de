"""The label table: the compacted topic ``labels`` as a hash table that arrays look things up in.

:class:`LabelTable` is a plain object that is fed keys and values. :mod:`consumers.label_reader` feeds
it from Kafka. Verdicts are found under the 64-bit look-up id of their subject (:func:`schemas.ids.lookup_id`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from consumers.label_store import LabelStore
from schemas import codec, ids
from schemas.records import Label, Verdict

NO_LABEL = 0
VERDICT_CODES: dict[Verdict, int] = {verdict: place + 1 for place, verdict in enumerate(Verdict)}
"""Code of each verdict in arrays: its place in the Avro enum plus one."""
VERDICTS: dict[int, Verdict] = {code: verdict for verdict, code in VERDICT_CODES.items()}

UNHELPFUL = VERDICT_CODES[Verdict.UNHELPFUL]
HELPFUL = VERDICT_CODES[Verdict.HELPFUL]
UNSURE = VERDICT_CODES[Verdict.UNSURE]
FIRST = VERDICT_CODES[Verdict.FIRST]
SECOND = VERDICT_CODES[Verdict.SECOND]
TIE = VERDICT_CODES[Verdict.TIE]

_BAD = 255
_HEAD = codec.HEADER_BYTES + 1 + 5
"""Bytes of the shortest label: header, verdict, and one byte for each of the five other fields."""
_WITHDRAWN = bytes(_HEAD)
_HEAD_LAYOUT = np.dtype([("marker", "<u8"), ("end", "<u2"), ("verdict", "u1"), ("rest", "V5")])
_KEY_LAYOUT = np.dtype([("spec", "<i8"), ("id", "<i8"), ("rest", "V8")])


class LabelTable:
    """Every verdict in force, by spec and subject.

    One thread calls :meth:`apply`; any thread reads without a lock. Records must be applied in the
    order of their partition; a later value for a key takes the earlier one's place, null removes it.
    """

    def __init__(self) -> None:
        self._stores: dict[bytes, LabelStore] = {}
        self._newest: dict[bytes, int] = {}

    def apply(self, keys: Sequence[bytes | None], values: Sequence[bytes | None]) -> int:
        """Take over a batch of records of ``labels`` in the order of the log.

        A value's verdict is read at its fixed place, without decoding the rest, if the value starts
        as the current schema's do; others are decoded. ``keys`` and ``values`` have the same length.

        Returns:
            Number of records that could not be read; they change nothing.
        """
        if not keys:
            return 0
        if set(map(_length, keys)) != {ids.LABEL_KEY_BYTES}:
            good = [i for i, key in enumerate(keys) if _length(key) == ids.LABEL_KEY_BYTES]
            return len(keys) - len(good) + self.apply([keys[i] for i in good], [values[i] for i in good])
        key_table = np.frombuffer(b"".join(keys), _KEY_LAYOUT)  # type: ignore[arg-type]
        codes = _codes(values)
        unreadable = 0
        if (codes == _BAD).any():
            readable = codes != _BAD
            unreadable = len(keys) - int(np.count_nonzero(readable))
            key_table, codes = key_table[readable], codes[readable]
            values = [value for value, good in zip(values, readable, strict=True) if good]
        self._store_all(key_table, codes, values)
        return unreadable

    def verdicts(self, spec_id: bytes, ids: NDArray[np.int64]) -> NDArray[np.int8]:
        """Verdict codes of look-up ids under one spec: int8 in the shape of ``ids``, 0 for no label."""
        store = self._stores.get(spec_id)
        return np.zeros(ids.shape, np.int8) if store is None else store.get(ids)

    def contains(self, spec_id: bytes, subject_id: bytes) -> bool:
        """Whether this subject has a label under this spec."""
        wanted = np.array([ids.lookup_id(subject_id)], np.int64)
        return bool(self.verdicts(spec_id, wanted)[0])

    def specs(self) -> list[bytes]:
        """Ids of the specs that have, or had, labels; sorted."""
        return sorted(self._stores)

    def count(self, spec_id: bytes) -> int:
        """Number of labels in force under one spec."""
        store = self._stores.get(spec_id)
        return 0 if store is None else len(store)

    def newest_annotated_at(self, spec_id: bytes) -> int:
        """When the newest label was made, microseconds since the epoch, UTC; 0 with none.

        Exact to the batch: only the last record of each applied batch is looked at.
        """
        return self._newest.get(spec_id, 0)

    @property
    def nbytes(self) -> int:
        """Bytes that the arrays take."""
        return sum(store.nbytes for store in list(self._stores.values()))

    def _store_all(
        self, key_table: NDArray[np.void], codes: NDArray[np.uint8], values: Sequence[bytes | None]
    ) -> None:
        spec_column = key_table["spec"]
        subjects = key_table["id"].copy()
        subjects[subjects == ids.NO_CAPTION] = 1  # as schemas.ids.lookup_id does
        for spec in np.unique(spec_column):
            mine = spec_column == spec
            spec_id = int(spec).to_bytes(8, "little", signed=True)
            store = self._stores.setdefault(spec_id, LabelStore())
            if mine.all():
                store.set(subjects, codes)
            else:
                store.set(subjects[mine], codes[mine])
            self._note_time(spec_id, values[int(np.flatnonzero(mine)[-1])])

    def _note_time(self, spec_id: bytes, value: bytes | None) -> None:
        if value is None:
            return
        try:
            made = codec.decode(Label, value).annotated_at
        except codec.DecodeError:  # its verdict stood at its place and counts; its time is not known
            return
        self._newest[spec_id] = max(made, self._newest.get(spec_id, 0))


def _length(value: bytes | None) -> int:
    return -1 if value is None else len(value)


def _codes(values: Sequence[bytes | None]) -> NDArray[np.uint8]:
    """Verdict code of each value, uint8: 0 for a withdrawal, 255 for what cannot be read."""
    heads = [_WITHDRAWN if value is None else value[:_HEAD] for value in values]
    joined = b"".join(heads)
    if len(joined) != _HEAD * len(values):  # some value is too short to be a label
        heads = [head if len(head) == _HEAD else _WITHDRAWN for head in heads]
        joined = b"".join(heads)
    table = np.frombuffer(joined, _HEAD_LAYOUT)
    marker, end, by_byte = _current_schema()
    codes = np.where((table["marker"] == marker) & (table["end"] == end), by_byte[table["verdict"]], _BAD)
    for place in np.flatnonzero(codes == _BAD):
        codes[place] = _decoded_code(values[place])
    return codes.astype(np.uint8, copy=False)


def _decoded_code(value: bytes | None) -> int:
    """The slow way, for older schemas: decode the whole record."""
    if value is None:
        return NO_LABEL
    try:
        return VERDICT_CODES[codec.decode(Label, value).verdict]
    except codec.DecodeError:
        return _BAD


@cache
def _current_schema() -> tuple[np.uint64, np.uint16, NDArray[np.uint8]]:
    """The header of labels as two integers, and verdict codes by the first byte of the Avro body."""
    start = codec.header(Label)
    by_byte = np.full(256, _BAD, np.uint8)
    for verdict, code in VERDICT_CODES.items():
        by_byte[2 * list(Verdict).index(verdict)] = code  # Avro writes an enum as a zigzag integer
    return (
        np.uint64(int.from_bytes(start[:8], "little")),
        np.uint16(int.from_bytes(start[8:10], "little")),
        by_byte,
    )
