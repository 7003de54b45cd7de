"""Annotations as rows of a file in JSON Lines or Parquet; a row has every field of its record."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, fields
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from onibus.consumers.labels.annotation_log_reader import LoggedAnnotation
from onibus.schemas.records import Annotation, CaptionOffset, Origin, Verdict

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS_AT_A_TIME = 5_000
_BYTES = ("spec_id", "subject_id", "prompt_hash")
_PLACE = ("partition", "offset", "written_at")

Row = dict[str, Any]


class RowFormat(Protocol):
    """A file format for rows."""

    def write(self, path: Path, rows: Iterable[Row]) -> None:
        """Write all rows."""

    def read(self, path: Path) -> Iterator[Row]:
        """The rows in the order in which they were written, a few thousand in memory at a time."""


def to_row(logged: LoggedAnnotation, annotation: Annotation) -> Row:
    """Position on the log, then the record's fields; ids and hashes as hex digits, times as integers."""
    row: Row = {name: getattr(logged, name) for name in _PLACE}
    row |= {f.name: getattr(annotation, f.name) for f in fields(Annotation)}
    row |= {name: row[name].hex() for name in _BYTES}
    row["texts"] = list(annotation.texts)
    row["verdict"] = annotation.verdict.value if annotation.verdict else None
    row["said"] = annotation.said.value if annotation.said else None
    row["origin"] = annotation.origin.value
    row["sources"] = [{"partition": s.partition, "offset": s.offset} for s in annotation.sources]
    return row


def from_row(row: Row) -> LoggedAnnotation:
    """The annotation in a row.

    Raises:
        ValueError, TypeError, KeyError: the row was not made by :func:`to_row`.
    """
    since = {f.name: f.default for f in fields(Annotation) if f.default is not MISSING}
    values = {f.name: row[f.name] for f in fields(Annotation) if f.name not in since}
    values |= {name: row.get(name, default) for name, default in since.items()}  # not in older files
    values |= {name: bytes.fromhex(values[name]) for name in _BYTES}
    values["texts"] = tuple(values["texts"])
    values["verdict"] = None if values["verdict"] is None else Verdict(values["verdict"])
    values["said"] = None if values["said"] is None else Verdict(values["said"])
    values["origin"] = Origin(values["origin"])
    values["sources"] = tuple(CaptionOffset(s["partition"], s["offset"]) for s in values["sources"])
    values["sampling"] = dict(values["sampling"])
    partition, offset, written_at = (int(row[name]) for name in _PLACE)
    return LoggedAnnotation(partition, offset, written_at, Annotation(**values))


class JsonLines:
    """One JSON object per line, UTF-8."""

    def write(self, path: Path, rows: Iterable[Row]) -> None:
        """See :meth:`RowFormat.write`."""
        with path.open("w", encoding="utf-8", newline="\n") as out:
            for row in rows:
                out.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")

    def read(self, path: Path) -> Iterator[Row]:
        """See :meth:`RowFormat.read`."""
        with path.open(encoding="utf-8", newline="\n") as lines:
            for line in lines:
                yield json.loads(line)


class Parquet:
    """Apache Parquet, compressed with zstd."""

    def write(self, path: Path, rows: Iterable[Row]) -> None:
        """See :meth:`RowFormat.write`."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema, left = _arrow_schema(), iter(rows)
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            while part := list(islice(left, _ROWS_AT_A_TIME)):
                writer.write_batch(pa.RecordBatch.from_pylist(part, schema=schema))

    def read(self, path: Path) -> Iterator[Row]:
        """See :meth:`RowFormat.read`."""
        import pyarrow.parquet as pq

        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_ROWS_AT_A_TIME):
                yield from batch.to_pylist()


FORMATS: dict[str, type[JsonLines] | type[Parquet]] = {".jsonl": JsonLines, ".parquet": Parquet}
"""Formats by the ending of a file's name."""


def _arrow_schema() -> pa.Schema:
    import pyarrow as pa

    text, integer, long = pa.string(), pa.int32(), pa.int64()
    kinds = {
        "texts": pa.list_(text),
        "sources": pa.list_(pa.struct([("partition", integer), ("offset", long)])),
        "sampling": pa.map_(text, text),
    }
    kinds |= dict.fromkeys(("partition", "tokens_in", "tokens_out", "attempt"), integer)
    kinds |= dict.fromkeys(("offset", "written_at", "latency_us", "observed_at", "annotated_at"), long)
    kinds |= dict.fromkeys(("tokens_are_estimated", "was_waiting", "was_flipped"), pa.bool_())
    kinds |= dict.fromkeys(("usd", "probability"), pa.float64())
    names = [*_PLACE, *(f.name for f in fields(Annotation))]
    return pa.schema([(name, kinds.get(name, text)) for name in names])
