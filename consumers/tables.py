"""The bus as pyarrow tables, and the label table for programs that look labels up.

Part of the public interface: ``onibus.captions()``, ``onibus.annotations()`` and so on. Every function reads
what is committed when it is called; nothing is written and no consumer group is joined.
"""

import builtins
import types
import typing
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import fields, is_dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

from onibus.consumers.labels.annotation_log_reader import AnnotationReader, LoggedAnnotation, of_specs
from onibus.consumers.labels.as_of import resolve_as_of
from onibus.consumers.labels.export import AnnotationFile
from onibus.consumers.labels.fold import FoldedLabel, LabelFold
from onibus.consumers.labels.reader import LabelReader
from onibus.consumers.labels.table import VERDICTS, LabelTable
from onibus.consumers.reward_models.version_reader import read_updates
from onibus.consumers.specs.known_specs import KnownSpecs
from onibus.infra.kafka.codecs import codec_for, read_decoded
from onibus.infra.settings import Settings, load_settings
from onibus.schemas.ids import caption_id, lookup_id
from onibus.schemas.records import (
    Annotation,
    CaptionObserved,
    EpisodeFinished,
    RewardUpdate,
    Verdict,
)

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS_AT_A_TIME = 5_000
_BINARY = frozenset({"actions"})
"""Fields that stay bytes; others of bytes are ids and hashes, shown as hex digits."""

Row = dict[str, Any]
R = TypeVar("R", CaptionObserved, EpisodeFinished)


def captions(
    *, run: str | None = None, task: str | None = None, settings: Settings | None = None
) -> "pa.Table":
    """Captions as rollout workers published them: one row per record of ``captions``.

    A caption that comes up again a minute later is published again, so the same text has several rows.

    Args:
        run: only those of this run.
        task: only those of this task.
        settings: where the bus is; by default from the environment and ``onibus.toml``.

    Returns:
        Columns: ``caption_id``, ``partition``, ``offset``, ``written_at`` and the fields of
        :class:`~onibus.schemas.records.CaptionObserved`. Times are UTC timestamps. The table is in memory.

    Raises:
        OnibusError: the cluster cannot be reached, or has no such topic.
    """
    read = _read(CaptionObserved, "captions", settings, run, task)
    rows = (row | {"caption_id": row["key"].hex()} for row in read)
    return _table(_text("caption_id") | _place() | _columns(CaptionObserved), rows)


def episodes(
    *, run: str | None = None, task: str | None = None, settings: Settings | None = None
) -> "pa.Table":
    """Whole episodes: one row per record of ``episodes``, with seeds and actions, which play it again.

    Args and errors are those of :func:`captions`.

    Returns:
        Columns: ``partition``, ``offset``, ``written_at`` and the fields of
        :class:`~onibus.schemas.records.EpisodeFinished`; ``actions`` is binary, one byte per action.
    """
    rows = _read(EpisodeFinished, "episodes", settings, run, task)
    return _table(_place() | _columns(EpisodeFinished), rows)


def annotations(
    source: Path | str | None = None,
    *,
    spec: str | None = None,
    as_of: str | None = None,
    settings: Settings | None = None,
) -> "pa.Table":
    """Every answer that was ever given: one row per annotation, in the order of each partition.

    Args:
        source: a file of ``onibus labels export``; by default the annotation log of the cluster.
        spec: name of an annotation spec, or the first digits of its id; by default all specs.
        as_of: up to where the log counts: a time (``2026-11-23T12:00``, ``2h``), offsets (``0:120,1:98``) or
            a version of a reward model (``MODEL@12``); by default everything.
        settings: where the bus is; by default from the environment and ``onibus.toml``.

    Returns:
        Columns: ``spec`` (its name), ``in_force`` (whether this is the answer that the label follows),
        ``partition``, ``offset``, ``written_at`` and the fields of
        :class:`~onibus.schemas.records.Annotation`. Ids are hex digits, times UTC timestamps.

    Raises:
        OnibusError: the cluster, the topic, the file or the spec does not exist, or a part is missing.
    """
    import pyarrow as pa

    fold, places = LabelFold(), []

    def rows(logged: Iterable[LoggedAnnotation], specs: KnownSpecs) -> Iterator[Row]:
        for one in logged:
            assert one.annotation is not None
            fold.apply(one)
            places.append((one.partition, one.offset))
            place = {"partition": one.partition, "offset": one.offset, "written_at": one.written_at}
            yield {"spec": specs.name(one.annotation.spec_id)} | place | _row(one.annotation)

    with _annotation_log(source, spec, as_of, settings) as (logged, specs):
        table = _table(_text("spec") | _place() | _columns(Annotation), rows(logged, specs))
    deciding = {(label.partition, label.offset) for label in fold if label.verdict is not None}
    return table.add_column(1, "in_force", pa.array([place in deciding for place in places], pa.bool_()))


def labels(
    source: Path | str | None = None,
    *,
    spec: str | None = None,
    as_of: str | None = None,
    settings: Settings | None = None,
) -> "pa.Table":
    """The verdict in force on every caption or pair: one row per spec and subject, withdrawn ones left out.

    A person's verdict stands over a model's; among equals the newest one counts.

    Args and errors are those of :func:`annotations`.

    Returns:
        Columns: ``spec``, ``caption`` (null where two are compared) and what
        :class:`~onibus.consumers.labels.fold.FoldedLabel` has: ``texts``, ``verdict``, ``origin``,
        ``annotator``, ``reason``, times as UTC timestamps, and the tokens and latency of all its annotations.
    """
    with _annotation_log(source, spec, as_of, settings) as (logged, specs):
        fold = LabelFold(logged)
    in_force = (_label_row(label, specs) for label in fold if label.verdict is not None)
    return _table(_text("spec", "caption") | _columns(FoldedLabel), in_force)


def reward_updates(*, model: str | None = None, settings: Settings | None = None) -> "pa.Table":
    """What each version of each reward model is: one row per record of ``reward-updates``, oldest first.

    Args:
        model: a reward model's name, or the beginning of it.
        settings: where the bus is; by default from the environment and ``onibus.toml``.

    Returns:
        Columns: the fields of :class:`~onibus.schemas.records.RewardUpdate`; ``metrics`` is a map of names to
        numbers.

    Raises:
        OnibusError: the cluster or the topic does not exist, or a record is not readable.
    """
    updates = read_updates(settings or load_settings())
    chosen = (update for update in updates if model is None or update.model.startswith(model))
    return _table(_columns(RewardUpdate), map(_row, chosen))


class LabelLookup(AbstractContextManager["LabelLookup"]):
    """The label table in memory, kept up to date while it is open: for programs that look verdicts up.

    ``with LabelLookup("goals") as lookup: lookup.verdict("You see here a key.")``. About 20 bytes per label.

    Args:
        spec: name of the annotation spec, of several versions the one announced last; or digits of an id.
        settings: where the bus is; by default from the environment and ``onibus.toml``.

    Raises:
        OnibusError: the cluster, a topic or the spec does not exist.
    """

    def __init__(self, spec: str, *, settings: Settings | None = None) -> None:
        where = settings or load_settings()
        self.spec_id = KnownSpecs.read(where).newest(spec)
        self._table = LabelTable(codec_for(where))
        self._reader = LabelReader(where, self._table)
        try:
            self._reader.load()
        except BaseException:
            self._reader.stop()
            raise
        self._reader.start()

    def __len__(self) -> int:
        """Number of labels in force."""
        return self._table.count(self.spec_id)

    def __exit__(self, *error: object) -> None:
        self.close()

    def verdict(self, caption: str) -> Verdict | None:
        """The verdict in force on a caption; None while it has none."""
        return self.verdicts([caption])[0]

    def verdicts(self, captions: Iterable[str]) -> list[Verdict | None]:
        """The verdict in force on each of ``captions``."""
        import numpy as np

        wanted = np.array([lookup_id(caption_id(text)) for text in captions], np.int64)
        return [VERDICTS.get(int(code)) for code in self._table.verdicts(self.spec_id, wanted)]

    def close(self) -> None:
        """Stop following the topic; what was read can still be looked up."""
        self._reader.stop()


@contextmanager
def _annotation_log(
    source: Path | str | None, spec: str | None, as_of: str | None, settings: Settings | None
) -> Iterator[tuple[Iterator[LoggedAnnotation], KnownSpecs]]:
    """The annotations of a file, or of the cluster's log, and the specs that are known there."""
    where = settings or load_settings()
    file = None if source is None else AnnotationFile(Path(source))
    specs = KnownSpecs.read(where) if file is None else KnownSpecs(file.specs)
    chosen = frozenset(specs.all if spec is None else specs.matching(spec))
    wanted = None if spec is None else of_specs(chosen)
    with AnnotationReader(where, wanted) if file is None else file as log:
        logged = log.read(resolve_as_of(where, log, as_of, "as_of"))
        yield (one for one in logged if one.annotation and one.annotation.spec_id in chosen), specs


def _read(
    kind: type[R], topic: str, settings: Settings | None, run: str | None, task: str | None
) -> Iterator[Row]:
    """Rows of the records of ``topic``; those that cannot be read are counted and logged."""
    where = settings or load_settings()
    for record, value in read_decoded(where, f"{where.topic_prefix}{topic}", kind):
        if run in (None, value.run) and task in (None, value.task):
            place = {"key": record.key, "partition": record.partition, "offset": record.offset}
            yield place | {"written_at": record.timestamp} | _row(value)


def _label_row(label: FoldedLabel, specs: KnownSpecs) -> Row:
    caption = label.texts[0] if len(label.texts) == 1 else None
    return {"spec": specs.name(label.spec_id), "caption": caption} | _row(label)


def _row(value: Any) -> Row:
    """The fields of a record; ids as hex digits, enumerations by their names."""
    return {field.name: _plain(field.name, getattr(value, field.name)) for field in fields(value)}


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, bytes):
        return value if name in _BINARY else value.hex()
    if isinstance(value, tuple):
        return [_plain(name, one) for one in value]
    return _row(value) if is_dataclass(value) else value


def _columns(kind: type) -> dict[str, "pa.DataType"]:
    """The type of each field of a record."""
    return {name: _arrow_type(name, type_) for name, type_ in get_type_hints(kind).items()}


def _arrow_type(name: str, type_: Any) -> "pa.DataType":
    import pyarrow as pa

    if name.endswith("_at"):
        return _time("ms" if name == "written_at" else "us")
    if name in _BINARY:
        return pa.binary()
    inner = [one for one in get_args(type_) if one not in (type(None), ...)]
    match get_origin(type_):
        case types.UnionType | typing.Union:
            return _arrow_type("", inner[0])
        case builtins.tuple:
            return pa.list_(_arrow_type("", inner[0]))
        case builtins.dict:
            return pa.map_(*(_arrow_type("", one) for one in inner))
    if isinstance(type_, type) and is_dataclass(type_):
        return pa.struct(list(_columns(type_).items()))
    plain = {bool: pa.bool_(), int: pa.int64(), float: pa.float64()}
    return plain.get(type_, pa.string())


def _text(*names: str) -> dict[str, "pa.DataType"]:
    import pyarrow as pa

    return dict.fromkeys(names, pa.string())


def _place() -> dict[str, "pa.DataType"]:
    """Where a record stands on the log, and when it was written."""
    import pyarrow as pa

    return {"partition": pa.int64(), "offset": pa.int64(), "written_at": _time("ms")}


def _time(unit: str) -> "pa.DataType":
    import pyarrow as pa

    return pa.timestamp(unit, "UTC")


def _table(columns: dict[str, "pa.DataType"], rows: Iterable[Row]) -> "pa.Table":
    """A few thousand rows at a time become columns, so that rows as objects do not fill the memory."""
    import pyarrow as pa

    schema, left = pa.schema(list(columns.items())), iter(rows)
    batches = []
    while part := list(islice(left, _ROWS_AT_A_TIME)):
        batches.append(pa.RecordBatch.from_pylist(part, schema=schema))
    return pa.Table.from_batches(batches, schema=schema)
