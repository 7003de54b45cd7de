"""Ids are the same on every machine, and change with exactly what they should."""

from __future__ import annotations

from dataclasses import fields, replace
from hashlib import blake2b
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onibus.schemas import ids
from onibus.schemas.records import AnnotationSpec, Kind, Message

SPEC = AnnotationSpec(
    "goals", "win", Kind.JUDGE_ONE, "Is {{ caption }} good?", "yes-no", "m", "r1", {"temperature": "0.1"}, 5
)


def test_known_caption_ids() -> None:
    # RFC 7693's function; checked with: printf '%s' TEXT | b2sum --length 128
    assert ids.caption_id("").hex() == "cae66941d9efbd404e4d88758ea67670"
    assert ids.caption_id("You see here a key.").hex() == "6def3bcede34612eb8af7271c90cce2f"
    assert ids.caption_id("Vöilà – “it”").hex() == "77da564422ab3900f81f1b9a5845e4b5"


@given(st.text(min_size=1))
def test_a_caption_id_is_blake2b_of_its_utf_8(text: str) -> None:
    assert ids.caption_id(text) == blake2b(text.encode("utf-8"), digest_size=16).digest()


def test_known_pair_spec_and_lookup_ids() -> None:
    first, second = ids.caption_id("a"), ids.caption_id("b")
    assert ids.pair_id(first, second).hex() == "f7e8f7172677d61e4d16a5f840e26f54"
    assert ids.spec_id(SPEC).hex() == "453e128414aba53c"
    assert ids.lookup_id(bytes(range(16))) == 0x0706050403020100
    assert ids.lookup_id(b"\xff" * 16) == -1


def test_a_pair_is_ordered_and_is_not_a_caption() -> None:
    first, second = ids.caption_id("a"), ids.caption_id("b")
    assert ids.pair_id(first, second) != ids.pair_id(second, first)
    assert ids.pair_id(first, second) != blake2b(first + second, digest_size=16).digest()


def test_no_subject_looks_up_as_no_caption() -> None:
    assert ids.lookup_id(bytes(16)) != ids.NO_CAPTION
    assert ids.lookup_id(bytes(16)) == 1


@given(st.binary(min_size=16, max_size=16))
def test_a_lookup_id_fits_an_int64(subject: bytes) -> None:
    assert -(2**63) <= ids.lookup_id(subject) < 2**63
    assert ids.lookup_id(subject) != ids.NO_CAPTION


@given(st.binary(min_size=8, max_size=8), st.binary(min_size=16, max_size=16))
def test_a_label_key_splits_into_its_ids(spec: bytes, subject: bytes) -> None:
    assert ids.split_label_key(ids.label_key(spec, subject)) == (spec, subject)


@given(st.binary(max_size=40).filter(lambda b: len(b) != 24))
def test_a_label_key_of_another_size_is_refused(key: bytes) -> None:
    with pytest.raises(ValueError, match="24 bytes"):
        ids.split_label_key(key)


@pytest.mark.parametrize(("spec", "subject"), [(7, 16), (9, 16), (8, 15), (8, 17), (16, 8)])
def test_ids_of_another_size_make_no_label_key(spec: int, subject: int) -> None:
    with pytest.raises(ValueError, match="8 bytes"):
        ids.label_key(bytes(spec), bytes(subject))


def test_ids_of_another_size_make_no_pair() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        ids.pair_id(bytes(16), bytes(15))


CHANGED: dict[str, Any] = {
    "goal": "lose",
    "kind": Kind.COMPARE_TWO,
    "template": "Is {{ caption }} bad?",
    "parser": "other",
    "model": "m2",
    "model_revision": "r2",
    "sampling": {"temperature": "0.2"},
    "messages": (Message("system", "You judge."),),
}
NOT_PART_OF_THE_QUESTION = {"name": "other", "created_at": 6}


def test_every_field_of_a_spec_is_either_part_of_its_id_or_listed_here() -> None:
    assert {f.name for f in fields(AnnotationSpec)} == CHANGED.keys() | NOT_PART_OF_THE_QUESTION.keys()


@pytest.mark.parametrize("name", CHANGED)
def test_a_spec_id_changes_with_whatever_can_change_an_answer(name: str) -> None:
    assert ids.spec_id(replace(SPEC, **{name: CHANGED[name]})) != ids.spec_id(SPEC)


@pytest.mark.parametrize("name", NOT_PART_OF_THE_QUESTION)
def test_a_spec_id_does_not_change_with_what_cannot(name: str) -> None:
    changed = replace(SPEC, **{name: NOT_PART_OF_THE_QUESTION[name]})  # type: ignore[arg-type]
    assert ids.spec_id(changed) == ids.spec_id(SPEC)


def test_a_spec_id_does_not_depend_on_the_order_of_sampling_settings() -> None:
    one = replace(SPEC, sampling={"temperature": "0.1", "seed": "1"})
    other = replace(SPEC, sampling={"seed": "1", "temperature": "0.1"})
    assert ids.spec_id(one) == ids.spec_id(other)


def test_text_moving_from_one_field_to_the_next_changes_a_spec_id() -> None:
    assert ids.spec_id(replace(SPEC, model="ab", model_revision="c")) != ids.spec_id(
        replace(SPEC, model="a", model_revision="bc")
    )
