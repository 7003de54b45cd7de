"""Up to where the log is read: a time, offsets, or a version of a reward model; the same in every command."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime

from onibus.consumers.labels.annotation_log_reader import (
    AnnotationReader,
    AnnotationSource,
    LoggedAnnotation,
    of_specs,
)
from onibus.consumers.labels.fold import LabelFold
from onibus.consumers.reward_models.version_reader import read_updates
from onibus.infra.errors import OnibusError
from onibus.infra.settings import Settings
from onibus.infra.times import parse_time
from onibus.schemas.records import RewardUpdate

_OFFSETS = re.compile(r"\d+:\d+(,\d+:\d+)*")
_ELSE_ACCEPTED = "; or offsets such as 0:120,1:98, or a version such as goals-453e128414aba53c@12"
_VERSION = re.compile(r"(?P<model>.+)@(?P<version>\d+)")


def resolve_as_of(
    settings: Settings, source: AnnotationSource, text: str | None, flag: str = "--as-of"
) -> dict[int, int]:
    """By partition the first annotation offset that is left out; without a text, the end.

    Args:
        flag: the flag that the text was given to, for errors.

    Raises:
        OnibusError: the text is not understood, does not name a partition, or there is no such version.
    """
    if text is None:
        return source.ends
    if _OFFSETS.fullmatch(text):
        given = {int(number): int(offset) for number, offset in (p.split(":") for p in text.split(","))}
        if len(given) <= text.count(","):
            raise OnibusError(f"{flag} {text} has two offsets for a partition; give one for each partition")
        if missing := sorted(source.ends.keys() - given.keys()):
            raise OnibusError(f"{flag} has no offset for partition {missing[0]}; give one for each partition")
        return given
    if match := _VERSION.fullmatch(text):
        update = _update(settings, match["model"], int(match["version"]))
        return dict.fromkeys(source.ends, 0) | offsets_of(update)
    written_at = parse_time(text, flag, else_accepted=_ELSE_ACCEPTED)
    if written_at > datetime.now(UTC):
        raise OnibusError(f"{flag} {text} is in the future; leave it out to read everything")
    return source.offsets_at(int(written_at.timestamp() * 1000))


def annotations_as_of(
    settings: Settings, as_of: str | None, wanted: Callable[[bytes], bool] | None = None
) -> Iterator[LoggedAnnotation]:
    """The annotation log up to that point; ``wanted`` selects records by their keys.

    Raises:
        OnibusError: as for :func:`resolve_as_of`, or part of the log is missing.
    """
    with AnnotationReader(settings, wanted) as reader:
        yield from reader.read(resolve_as_of(settings, reader, as_of))


def labels_as_of(settings: Settings, as_of: str | None, spec_ids: Iterable[bytes] | None = None) -> LabelFold:
    """Every label of these specs (None: of all) as it was at that point.

    Raises:
        OnibusError: as for :func:`annotations_as_of`.
    """
    wanted = None if spec_ids is None else of_specs(frozenset(spec_ids))
    return LabelFold(annotations_as_of(settings, as_of, wanted))


def offsets_of(update: RewardUpdate) -> dict[int, int]:
    """By partition the first annotation offset that a version has not seen."""
    return {int(number): offset for number, offset in update.annotation_offsets.items()}


def _update(settings: Settings, model: str, version: int) -> RewardUpdate:
    updates = [u for u in read_updates(settings) if u.model == model]
    if not updates:
        raise OnibusError(f"there is no reward model {model}; list them with: onibus replay verify")
    found = [u for u in updates if u.version == version]
    if not found:
        raise OnibusError(
            f"reward model {model} has no version {version}; it has "
            f"{updates[0].version} to {updates[-1].version}"
        )
    return found[-1]
