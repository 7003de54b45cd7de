"""Annotations in a file, with a data card that says what it contains; incomplete files are refused."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from hashlib import file_digest
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from onibus.consumers.labels.annotation_log_reader import LoggedAnnotation, offsets_text
from onibus.consumers.labels.file_formats import FORMATS, Row, RowFormat, from_row, to_row
from onibus.consumers.labels.filter import counts
from onibus.consumers.labels.fold import LabelFold, iso
from onibus.infra.errors import OnibusError
from onibus.infra.files import write_whole
from onibus.schemas import ids
from onibus.schemas.records import AnnotationSpec, Kind, Message


class SpecOfCard(BaseModel):
    """A complete annotation specification."""

    model_config = ConfigDict(extra="forbid")

    spec_id: str
    name: str
    goal: str
    kind: Kind
    template: str
    parser: str
    model: str
    model_revision: str
    sampling: dict[str, str]
    created_at: int
    messages: tuple[Message, ...] = ()

    def spec(self) -> AnnotationSpec:
        """The record."""
        return AnnotationSpec(**{name: getattr(self, name) for name in AnnotationSpec.__slots__})


class LabelCount(BaseModel):
    """Number of labels of a specification with this verdict and origin."""

    spec_id: str
    verdict: str
    origin: str
    labels: int


class DataCard(BaseModel):
    """What a file of annotations contains.

    Attributes:
        sha256: of the file, like ``size_bytes`` and ``rows``.
        partitions: number of partitions of the log that it was read from.
        offsets: by partition (its number as text) the first annotation offset that is not in the file; it has
            every annotation of these specifications before.
        first_annotated_at: ISO 8601, like the other times.
    """

    model_config = ConfigDict(extra="forbid")

    format: Literal["onibus-annotations/1"] = "onibus-annotations/1"
    file: str
    size_bytes: int
    sha256: str
    exported_at: str
    topic: str
    partitions: int
    offsets: dict[str, int]
    rows: int
    specs: list[SpecOfCard]
    labels: list[LabelCount]
    tokens_in: int
    tokens_out: int
    first_annotated_at: str | None
    last_annotated_at: str | None

    def markdown(self) -> str:
        """The card for people."""
        specs = "\n".join(
            f"| {s.name} | `{s.spec_id}` | {s.kind.value} | {s.model} {s.model_revision} |"
            for s in self.specs
        )
        labels = "\n".join(
            f"| `{c.spec_id}` | {c.verdict} | {c.origin} | {c.labels:,} |" for c in self.labels
        )
        return (
            f"# {self.file}\n\n{self.rows:,} annotations of `{self.topic}` below the offsets "
            f"`{offsets_text(_numbers(self.offsets))}`, exported {self.exported_at} by onibus. Made between "
            f"{self.first_annotated_at} and {self.last_annotated_at}; {self.tokens_in:,} tokens in, "
            f"{self.tokens_out:,} out. {self.size_bytes:,} bytes, SHA-256 `{self.sha256}`.\n\n"
            "A row is one answer, with its position on the log and every field of the record; times "
            "are microseconds since the epoch (`written_at`: milliseconds). The newest answer about a "
            "subject is in force; a person's overrides a model's until it is withdrawn.\n\n"
            f"| spec | id | kind | model |\n|---|---|---|---|\n{specs}\n\n"
            f"| spec id | verdict in force | origin | labels |\n|---|---|---|---|\n{labels}\n"
        )


@dataclass(slots=True)
class _Totals:
    """Totals of the rows that are written to a file."""

    rows: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    first_at: int | None = None
    last_at: int | None = None
    fold: LabelFold = field(default_factory=LabelFold)

    def rows_of(
        self,
        logged: Iterable[LoggedAnnotation],
        specs: Mapping[bytes, AnnotationSpec],
        progress: Callable[[int], None],
    ) -> Iterator[Row]:
        for one in logged:
            if (annotation := one.annotation) is None:
                continue
            if annotation.spec_id not in specs:
                raise OnibusError(
                    f"the log has annotations of spec {annotation.spec_id.hex()}, which was never "
                    "announced on annotation-specs; announce it (onibus annotate --spec FILE), or choose "
                    "others with --spec"
                )
            self.rows += 1
            self.tokens_in += annotation.tokens_in
            self.tokens_out += annotation.tokens_out
            at = annotation.annotated_at
            self.first_at = at if self.first_at is None else min(at, self.first_at)
            self.last_at = at if self.last_at is None else max(at, self.last_at)
            self.fold.apply(one)
            progress(1)
            yield to_row(one, annotation)


def export_annotations(
    path: Path,
    logged: Iterable[LoggedAnnotation],
    specs: Mapping[bytes, AnnotationSpec],
    topic: str,
    until: Mapping[int, int],
    progress: Callable[[int], None] = lambda _: None,
) -> DataCard:
    """Write annotations to ``path``, and its card to ``path`` with .card.json and .card.md appended.

    Args:
        logged: all annotations of these specs below ``until``, in the order of each partition.

    Raises:
        OnibusError: the name does not end in a known format, or the file cannot be written.
    """
    totals, part = _Totals(), path.with_name(f"{path.name}.part")
    written = _format(path)
    try:
        written.write(part, totals.rows_of(logged, specs, progress))
        card = DataCard(
            file=path.name,
            size_bytes=part.stat().st_size,
            sha256=_sha256(part),
            exported_at=datetime.now(UTC).isoformat(timespec="seconds"),
            topic=topic,
            partitions=len(until),
            offsets={str(number): offset for number, offset in sorted(until.items())},
            rows=totals.rows,
            specs=[SpecOfCard(spec_id=i.hex(), **asdict(spec)) for i, spec in specs.items()],
            labels=[
                LabelCount(spec_id=spec_id.hex(), verdict=verdict, origin=origin, labels=count)
                for (spec_id, verdict, origin), count in sorted(counts(totals.fold).items())
            ],
            tokens_in=totals.tokens_in,
            tokens_out=totals.tokens_out,
            first_annotated_at=None if totals.first_at is None else iso(totals.first_at),
            last_annotated_at=None if totals.last_at is None else iso(totals.last_at),
        )
        os.replace(part, path)
        write_whole(_beside(path, ".md"), card.markdown())
        write_whole(_beside(path, ".json"), card.model_dump_json(indent=2))
    except OSError as error:
        raise OnibusError(f"cannot write {path}: {error.strerror}; give another path") from error
    finally:
        part.unlink(missing_ok=True)
    return card


class AnnotationFile:
    """A file that :func:`export_annotations` wrote, checked against its card; it is read like the log itself.

    Raises:
        OnibusError: there is no file or card, the file is incomplete, or they are not an export of onibus.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._format = _format(path)
        if not path.is_file():
            raise OnibusError(f"there is no file {path}; make one with: onibus labels export")
        self.card = _read_card(path)
        self.specs = {bytes.fromhex(s.spec_id): s.spec() for s in self.card.specs}
        self._refuse_other_content()

    @property
    def ends(self) -> dict[int, int]:
        """By partition the first annotation offset that is not in the file."""
        return _numbers(self.card.offsets)

    def offsets_at(self, written_at: int) -> dict[int, int]:
        """By partition the first annotation of that time (milliseconds, UTC) or later, or the end."""
        found = self.ends
        for one in self.read(self.ends):
            if one.written_at >= written_at:
                found[one.partition] = min(found[one.partition], one.offset)
        return found

    def read(self, until: Mapping[int, int]) -> Iterator[LoggedAnnotation]:
        """The annotations below ``until``, from the beginning, in the order of each partition.

        Raises:
            OnibusError: the file ends earlier, or a row is not an annotation of the card.
        """
        ends = self.ends
        for number, offset in sorted(until.items()):
            if offset > ends.get(number, 0):
                raise OnibusError(
                    f"{self.path} ends at offset {ends.get(number, 0)} of partition {number}: offsets "
                    f"{ends.get(number, 0)} to {offset - 1} are missing; export again, or read less"
                )
        rows = 0
        try:
            for row in self._format.read(self.path):
                rows += 1
                one = from_row(row)
                self._refuse_foreign(one)
                if one.offset < until.get(one.partition, 0):
                    yield one
        except (ValueError, TypeError, KeyError, OSError) as error:  # pyarrow's errors are among them
            raise OnibusError(f"{self.path}, row {rows}: {error}; is it an export of onibus?") from error
        if rows != self.card.rows:
            raise OnibusError(
                f"{self.path} has {rows:,} rows, its card says {self.card.rows:,}; export again"
            )

    def close(self) -> None:
        """Nothing is kept open."""

    def __enter__(self) -> AnnotationFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _refuse_other_content(self) -> None:
        size = self.path.stat().st_size
        if size != self.card.size_bytes or _sha256(self.path) != self.card.sha256:
            how = (
                f"has {size:,} of {self.card.size_bytes:,} bytes"
                if size < self.card.size_bytes
                else "is not the file that its card describes (its SHA-256 differs)"
            )
            raise OnibusError(
                f"{self.path} {how}: annotations below "
                f"{offsets_text(self.ends)} may be missing; copy it again"
            )
        for spec_id, spec in self.specs.items():
            if ids.spec_id(spec) != spec_id:
                raise OnibusError(
                    f"{_beside(self.path, '.json')}: spec {spec.name} does not have the id {spec_id.hex()}; "
                    "was the card edited? Copy it again"
                )

    def _refuse_foreign(self, one: LoggedAnnotation) -> None:
        annotation = one.annotation
        assert annotation is not None
        if annotation.spec_id not in self.specs:
            raise ValueError(f"spec {annotation.spec_id.hex()} is not in the card")
        caption_ids = [ids.caption_id(text) for text in annotation.texts]
        own = caption_ids[0] if len(caption_ids) == 1 else ids.pair_id(*caption_ids)
        if own != annotation.subject_id:
            raise ValueError(f"subject {annotation.subject_id.hex()} is not that of its captions")


def _read_card(path: Path) -> DataCard:
    place = _beside(path, ".json")
    try:
        return DataCard.model_validate_json(place.read_bytes())
    except FileNotFoundError as error:
        raise OnibusError(
            f"{path} has no data card {place.name} beside it, so it may be incomplete; "
            "copy the card too, or export again with: onibus labels export"
        ) from error
    except (ValidationError, OSError) as error:
        raise OnibusError(f"{place} is not a data card of onibus labels export; copy it again") from error


def _format(path: Path) -> RowFormat:
    kind = FORMATS.get(path.suffix)
    if kind is None:
        raise OnibusError(f"{path}: the name must end in {' or '.join(FORMATS)}, to choose the format")
    return kind()


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(f"{path.name}.card{ending}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _numbers(offsets: Mapping[str, int]) -> dict[int, int]:
    return {int(number): offset for number, offset in offsets.items()}
