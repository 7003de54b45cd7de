"""One specification's verdicts as a hash table in one numpy array: int64 id to one byte.

A row is a cache line of 64 bytes: one word that packs the values of the row's seven slots, a byte
each, and seven words of keys. Open addressing goes by whole rows, so one gather of rows resolves
nearly every id, and a batch is looked up in a handful of array operations with one cache miss per id
and no Python loop. A large table takes 18 to 37 bytes per id.

One thread writes and any number read, without a lock: a free slot's value is 0, a key is written before its
value, a slot never changes its key, and a larger table is filled before a single assignment replaces the
old one. So a reader finds an id's value or none, never that of another id.
"""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray

SLOTS = 7
FULLEST = 0.5
"""Share of slots in use above which the table grows, before too many rows overflow into the next."""

_WORDS = 8  # in a row: the packed values, then the keys (0 = free; a row fills from its first slot on)
_ROW_BYTES = 8 * _WORDS
_LAST_KEY = _WORDS - 1
_FIRST_ROWS = 128
_ALL_ONES = np.uint64(255)
_SUM_OF_BYTES = np.uint64(0x0101010101010101)

if sys.byteorder != "little":
    raise ImportError("label tables pack bytes into words in little-endian order; this machine's is big")


class LabelStore:
    """Map of int64 ids to values 1..127, in which 0 means absent; the id 0 is always absent.

    Ids are expected to be hashes: their low bits choose the row. Memory is bounded by the number of
    distinct ids; ids set back to 0 are removed when the table next grows.
    """

    def __init__(self) -> None:
        self._rows = _empty(_FIRST_ROWS)
        self._used = 0

    def __len__(self) -> int:
        """Number of ids with a value (counts them: about a millisecond for a million)."""
        return int(np.count_nonzero(_values(self._rows)))

    @property
    def nbytes(self) -> int:
        """Bytes that the array takes."""
        return self._rows.nbytes

    def get(self, ids: NDArray[np.int64]) -> NDArray[np.int8]:
        """Values of ``ids``: int8, same shape, 0 where there is none. Safe in any thread."""
        table = self._rows
        flat = np.ascontiguousarray(ids, dtype=np.int64).reshape(-1)
        rows = _home(flat, table)
        values, full = _read(table, rows, flat)
        onward = full[values[full] == 0]  # may be in the next row
        while onward.size:
            rows[onward] = (rows[onward] + 1) & (len(table) - 1)
            values[onward], full = _read(table, rows[onward], flat[onward])
            onward = onward[full]
            onward = onward[values[onward] == 0]
        return values.astype(np.int8).reshape(ids.shape)

    def set(self, ids: NDArray[np.int64], values: NDArray[np.uint8]) -> None:
        """Give each of ``ids`` (n,) its value (n,); the last one of a repeated id counts. One thread only.

        Raises:
            ValueError: an id is 0.
        """
        if not ids.all():
            raise ValueError("the id 0 stands for no caption and takes no label")
        rows, words = _find(self._rows, ids)
        known = words > 0
        _bytes(self._rows)[rows[known], words[known]] = values[known]
        if known.all():
            return
        new_ids, new_values = ids[~known], values[~known]
        if self._used + new_ids.size > FULLEST * SLOTS * len(self._rows):
            self._grow(new_ids.size)
        new_ids, new_values = _last_of_each(self._rows, new_ids, new_values)
        present = new_values != 0
        _insert(self._rows, new_ids[present], new_values[present])
        self._used += int(np.count_nonzero(present))

    def _grow(self, more: int) -> None:
        old_values = _values(self._rows)
        live = old_values != 0
        ids, values = self._rows[:, 1:][live], old_values[live]
        count = _FIRST_ROWS
        while ids.size + more > 0.9 * FULLEST * SLOTS * count:
            count *= 2
        larger = _empty(count)
        order = np.argsort(_home(ids, larger))
        _insert(larger, ids[order], values[order])
        self._used = ids.size
        self._rows = larger


def _empty(rows: int) -> NDArray[np.int64]:
    spare = np.zeros((rows + 1) * _WORDS, np.int64)
    start = (-spare.ctypes.data % _ROW_BYTES) // 8  # rows on cache-line boundaries
    return spare[start : start + rows * _WORDS].reshape(rows, _WORDS)


def _bytes(table: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The table as bytes (rows, 64): byte s of a row is the value of the key in its word s."""
    return table.view(np.uint8)


def _values(table: NDArray[np.int64]) -> NDArray[np.uint8]:
    return _bytes(table)[:, 1:_WORDS]


def _home(ids: NDArray[np.int64], table: NDArray[np.int64]) -> NDArray[np.int64]:
    """The row where the search for each id begins; a table has a power of two of rows."""
    return ids & (len(table) - 1)


def _read(
    table: NDArray[np.int64], rows: NDArray[np.int64], ids: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], NDArray[np.intp]]:
    """Value of each id in its row (0: absent), and the indices in ``ids`` whose row is full."""
    lines = table.take(rows, axis=0, mode="clip")
    hit = (lines == ids[:, None]).view(np.uint64).reshape(-1)  # a byte of 1 for the word that matches
    # Word 0, the values, may match by chance, but its own byte is 0. So at most one byte remains, and
    # the multiplication sums all bytes in the top one.
    values = (hit * _ALL_ONES & lines[:, 0].view(np.uint64)) * _SUM_OF_BYTES
    return values.view(np.uint8)[_WORDS - 1 :: _WORDS], np.flatnonzero(lines[:, _LAST_KEY])


def _find(table: NDArray[np.int64], ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and word (1..7) of each id; word 0 where it is not in the table."""
    rows, words = _home(ids, table), np.zeros(ids.size, np.int64)
    at = np.arange(ids.size)
    while at.size:
        lines = table.take(rows[at], axis=0)
        lines[:, 0] = 0
        hit = lines == ids[at, None]
        words[at] = hit.argmax(axis=1)  # 0 if nowhere
        at = at[(words[at] == 0) & (lines[:, _LAST_KEY] != 0)]
        rows[at] = (rows[at] + 1) & (len(table) - 1)
    return rows, words


def _last_of_each(
    table: NDArray[np.int64], ids: NDArray[np.int64], values: NDArray[np.uint8]
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Distinct ids, each with the last of its values, in the order of their home rows."""
    row_bits = np.uint64(len(table).bit_length() - 1)
    words = ids.view(np.uint64)
    row_first = (words << (np.uint64(64) - row_bits)) | (words >> row_bits)
    order = np.argsort(row_first, kind="stable")
    ids, values = ids[order], values[order]
    last = np.append(ids[1:] != ids[:-1], True)
    return ids[last], values[last]


def _insert(table: NDArray[np.int64], ids: NDArray[np.int64], values: NDArray[np.uint8]) -> None:
    """Put distinct ids into the first row from home on that is not full.

    They are not in the table yet, and come in the order of their home rows.
    """
    rows = _home(ids, table)
    while ids.size:
        taken = np.count_nonzero(table.take(rows, axis=0)[:, 1:], axis=1)
        first_of_row = np.searchsorted(rows, rows, side="left")
        words = 1 + taken + np.arange(rows.size) - first_of_row
        fits = words <= SLOTS
        table[rows[fits], words[fits]] = ids[fits]
        _bytes(table)[rows[fits], words[fits]] = values[fits]  # after the key: free slots' values stay 0
        if fits.all():
            return
        ids, values, rows = ids[~fits], values[~fits], (rows[~fits] + 1) & (len(table) - 1)
        order = np.argsort(rows, kind="stable")  # the last row's neighbour is the first
        ids, values, rows = ids[order], values[order], rows[order]
