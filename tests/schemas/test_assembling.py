"""An assembled record equals a constructed one, and is as frozen."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass, fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onibus.schemas.assembling import assembler
from onibus.schemas.records import Record
from tests.schemas.made_records import RECORD_TYPES, records


@pytest.mark.parametrize("record_type", RECORD_TYPES, ids=lambda t: t.__name__)
@given(data=st.data())
def test_it_is_the_record_that_its_own_init_makes(record_type: type[Record], data: st.DataObject) -> None:
    made = data.draw(records(record_type))
    by_name = {f.name: getattr(made, f.name) for f in fields(record_type)}
    shuffled = dict(data.draw(st.permutations(list(by_name.items()))))
    assembled = assembler(record_type)(shuffled)
    assert type(assembled) is record_type
    assert assembled == made
    assert repr(assembled) == repr(made)
    first = fields(record_type)[0].name
    assert replace(assembled, **{first: by_name[first]}) == made
    with pytest.raises(FrozenInstanceError):
        setattr(assembled, first, by_name[first])


def test_a_field_that_is_missing_is_an_error() -> None:
    with pytest.raises(KeyError, match="observed_at"):
        assembler(RECORD_TYPES[1])({"verdict": None, "caption_partition": 0, "caption_offset": 0})


def test_a_type_that_checks_its_fields_is_refused_since_its_check_would_not_run() -> None:
    @dataclass(frozen=True, slots=True)
    class Checked:
        first: int
        second: int

        def __post_init__(self) -> None: ...

    with pytest.raises(AssertionError, match="not be called"):
        assembler(Checked)


def test_a_type_without_slots_is_refused_before_anything_is_decoded() -> None:
    @dataclass(frozen=True)
    class Open:
        first: int
        second: int

    with pytest.raises(AssertionError, match="no slots"):
        assembler(Open)
