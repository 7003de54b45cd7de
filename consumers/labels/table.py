"""The label table: the compacted topic ``labels`` as a hash table for look-ups of whole arrays.

:class:`LabelTable` is a plain object that is fed keys and values. :mod:`onibus.consumers.labels.reader` feeds
it from Kafka. Verdicts are stored under the 64-bit look-up id of their subject
(:func:`onibus.schemas.ids.lookup_id`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from onibus.consumers.labels.hash_table import LabelStore
from onibus.schemas import ids
from onibus.schemas.codec import Codec, DecodeError, SingleObjectCodec
from onibus.schemas.records import Label, Verdict

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
_SHORTEST_BODY = 6
"""Bytes of the shortest Avro body of a label: one for each of its fields."""
_KEY_LAYOUT = np.dtype([("spec", "<i8"), ("id", "<i8"), ("rest", "V8")])


class LabelTable:
    """Every verdict in force, by spec and subject.

    One thread calls :meth:`apply`; any thread reads without a lock. Records must be applied in the
    order of their partition; a later value for a key replaces the earlier one, null removes it.

    Args:
        codec: reads the values; by default single-object encoding.
    """

    def __init__(self, codec: Codec | None = None) -> None:
        self._codec = SingleObjectCodec() if codec is None else codec
        self._starts: list[bytes] = []
        self._stores: dict[bytes, LabelStore] = {}
        self._newest: dict[bytes, int] = {}

    def apply(self, keys: Sequence[bytes | None], values: Sequence[bytes | None]) -> int:
        """Apply a batch of records of ``labels`` in the order of the log.

        A value's verdict is read at its fixed position, without decoding the rest, if the value starts
        like those of the current schema; others are decoded. ``keys`` and ``values`` have the same length.

        Returns:
            Number of records that could not be read; they change nothing.
        """
        if not keys:
            return 0
        if not _are_well_formed(keys):
            good = [i for i, key in enumerate(keys) if _length(key) == ids.LABEL_KEY_BYTES]
            readable_keys, theirs = [keys[i] for i in good], [values[i] for i in good]
            return len(keys) - len(good) + LabelTable.apply(self, readable_keys, theirs)
        key_table = np.frombuffer(b"".join(keys), _KEY_LAYOUT)  # type: ignore[arg-type]
        codes = self._codes(values)
        unreadable = 0
        if (codes == _BAD).any():
            readable = codes != _BAD
            unreadable = len(keys) - int(np.count_nonzero(readable))
            key_table, codes = key_table[readable], codes[readable]
            values = [value for value, good in zip(values, readable, strict=True) if good]
        if codes.size:
            self._store_all(key_table, codes, values)
        return unreadable

    def unreadable(self, keys: Sequence[bytes | None], values: Sequence[bytes | None]) -> list[int]:
        """Indices of the records that :meth:`apply` skips."""
        bad = self._codes(values) == _BAD
        return [i for i, key in enumerate(keys) if bad[i] or _length(key) != ids.LABEL_KEY_BYTES]

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
        """When the newest label was made, microseconds since the epoch, UTC; 0 without labels.

        Exact to the batch: only the last record of each applied batch is examined.
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
        subjects = lookup_ids(key_table["id"])
        for spec in np.unique(spec_column):
            mine = np.flatnonzero(spec_column == spec)
            spec_id = int(spec).to_bytes(8, "little", signed=True)
            self._stores.setdefault(spec_id, LabelStore()).set(subjects[mine], codes[mine])
            self._note_time(spec_id, values[mine[-1]])

    def _note_time(self, spec_id: bytes, value: bytes | None) -> None:
        if value is None:
            return
        try:
            made = self._codec.decode(Label, value).annotated_at
        except DecodeError:  # its verdict was readable and counts; its time is unknown
            return
        self._newest[spec_id] = max(made, self._newest.get(spec_id, 0))

    def _codes(self, values: Sequence[bytes | None]) -> NDArray[np.uint8]:
        """Verdict code of each value, uint8: 0 for a withdrawal, 255 for what cannot be read."""
        codes = np.full(len(values), _BAD, np.uint8)
        codes[[place for place, value in enumerate(values) if value is None]] = NO_LABEL
        for start in self._starts:
            self._read_alike(values, start, codes)
        for place in np.flatnonzero(codes == _BAD):
            value = values[place]
            if codes[place] != _BAD or value is None:
                continue
            header = self._codec.header_of(Label, value)
            if header is not None and header not in self._starts:
                self._starts.append(header)
                self._read_alike(values, header, codes)
            if codes[place] == _BAD:
                codes[place] = self._decoded_code(value)
        return codes

    def _read_alike(self, values: Sequence[bytes | None], start: bytes, codes: NDArray[np.uint8]) -> None:
        """Put in the codes of those values without one that begin with ``start``, all at once."""
        places = np.flatnonzero(codes == _BAD)
        if not places.size:
            return
        size = len(start) + _SHORTEST_BODY
        blank = bytes(size)
        whole = values if places.size == len(values) else [values[place] for place in places]
        heads = [blank if value is None else value[:size] for value in whole]
        joined = b"".join(heads)
        if len(joined) != size * len(heads):  # some value is too short to be a label
            joined = b"".join(head if len(head) == size else blank for head in heads)
        table = np.frombuffer(joined, np.uint8).reshape(-1, size)
        alike = (table[:, : len(start)] == np.frombuffer(start, np.uint8)).all(axis=1)
        codes[places[alike]] = _CODE_BY_FIRST_BYTE[table[alike, len(start)]]

    def _decoded_code(self, value: bytes | None) -> int:
        """The slow way, for older schemas: decode the whole record."""
        if value is None:
            return NO_LABEL
        try:
            return VERDICT_CODES[self._codec.decode(Label, value).verdict]
        except DecodeError:
            return _BAD


def lookup_ids(words: NDArray[np.int64]) -> NDArray[np.int64]:
    """:func:`onibus.schemas.ids.lookup_id` of many subjects: int64 (n,) of their first 8 bytes, likewise."""
    found = words.copy()
    found[found == ids.NO_CAPTION] = ids.INSTEAD_OF_NO_CAPTION
    return found


def _are_well_formed(keys: Sequence[bytes | None]) -> bool:
    try:
        return set(map(len, keys)) == {ids.LABEL_KEY_BYTES}  # type: ignore[arg-type]
    except TypeError:  # one of them is None
        return False


def _length(value: bytes | None) -> int:
    return -1 if value is None else len(value)


def _code_by_first_byte() -> NDArray[np.uint8]:
    """Verdict codes by the first byte of the Avro body, which is the verdict as a zigzag integer."""
    codes = np.full(256, _BAD, np.uint8)
    for code in VERDICT_CODES.values():
        codes[2 * (code - 1)] = code
    return codes


_CODE_BY_FIRST_BYTE = _code_by_first_byte()
