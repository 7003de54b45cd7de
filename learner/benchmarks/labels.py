"""Labels in bulk for benchmarks: real keys and values, as an annotator would write them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from onibus.consumers.labels.table import LabelTable
from onibus.schemas.codec import encode
from onibus.schemas.ids import caption_id, label_key, lookup_id
from onibus.schemas.records import Label, Verdict

SPEC = b"benchmrk"
_BATCH = 5_000


def label_records(count: int) -> Iterator[tuple[list[bytes], list[bytes | None]]]:
    """Keys and values of ``count`` labels of different captions, in batches."""
    for start in range(0, count, _BATCH):
        numbers = range(start, min(count, start + _BATCH))
        yield [label_key(SPEC, caption_id(f"caption {n}")) for n in numbers], [_value(n) for n in numbers]


def filled_table(count: int) -> tuple[LabelTable, NDArray[np.int64]]:
    """A table of ``count`` labels, and their lookup ids."""
    table = LabelTable()
    ids = []
    for keys, values in label_records(count):
        table.apply(keys, values)
        ids += [lookup_id(key[8:]) for key in keys]
    return table, np.array(ids, dtype=np.int64)


def _value(number: int) -> bytes:
    verdict = Verdict.HELPFUL if number % 5 == 0 else Verdict.UNHELPFUL
    moment = 1_700_000_000_000_000 + number
    return encode(Label(verdict, number % 16, number, moment, moment + 50_000, "annotator-1"))
