"""Every flag for a time accepts the same format: ISO 8601, or an age."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

import pytest

from onibus.consumers.labels.annotation_log_reader import LoggedAnnotation
from onibus.consumers.labels.as_of import resolve_as_of
from onibus.consumers.specs.known_specs import KnownSpecs
from onibus.infra.cli.label_options import label_filter
from onibus.infra.errors import OnibusError
from onibus.infra.settings import load_settings
from onibus.infra.times import parse_time


class NothingLogged:
    """An annotation source with two empty partitions."""

    @property
    def ends(self) -> dict[int, int]:
        return {0: 0, 1: 0}

    def offsets_at(self, written_at: int) -> dict[int, int]:
        return self.ends

    def read(self, until: Mapping[int, int]) -> Iterator[LoggedAnnotation]:
        return iter(())


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-11-23", datetime(2026, 11, 23, tzinfo=UTC)),
        ("2026-11-23T12:00", datetime(2026, 11, 23, 12, tzinfo=UTC)),
        ("2026-11-23T12:00+02:00", datetime(2026, 11, 23, 10, tzinfo=UTC)),
    ],
)
def test_a_time_is_utc_unless_it_names_its_zone(text: str, time: datetime) -> None:
    assert parse_time(text, "--since") == time


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1_800), ("2h", 7_200), ("1d", 86_400)])
def test_a_duration_is_an_age(text: str, seconds: int) -> None:
    expected = datetime.now(UTC) - timedelta(seconds=seconds)
    assert abs(parse_time(text, "--since") - expected) < timedelta(seconds=30)


@pytest.mark.parametrize("text", ["yesterday", "2w", "-2h", "999999999d", "2026-13-01", ""])
def test_anything_else_is_refused_with_the_name_of_the_flag(text: str) -> None:
    with pytest.raises(OnibusError, match=r"^--before .*: not understood; give a time such as .*2h"):
        parse_time(text, "--before")


def test_labels_are_chosen_by_durations_too() -> None:
    chosen = label_filter(KnownSpecs({}), None, None, "", None, None, since="2h", before="1h")
    assert chosen.since is not None
    assert chosen.before is not None
    assert timedelta(minutes=59) < chosen.before - chosen.since < timedelta(minutes=61)


@pytest.mark.parametrize("flag", ["--as-of", "--until"])
@pytest.mark.parametrize("text", ["yesterday", "0:1", "0:1,1:5,0:2", "2999-01-01"])
def test_where_the_log_ends_is_refused_with_the_flag_that_was_typed(flag: str, text: str) -> None:
    with pytest.raises(OnibusError) as refused:
        resolve_as_of(load_settings(), NothingLogged(), text, flag)
    assert str(refused.value).startswith(f"{flag} ")
