"""Agreement of several judges, against published figures and against its definition."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onibus.consumers.labels.agreement import krippendorffs_alpha
from onibus.consumers.labels.judge_agreement import Verdicts
from onibus.schemas.records import Annotation, Origin, Verdict

YES, NO, UNSURE = Verdict.HELPFUL, Verdict.UNHELPFUL, Verdict.UNSURE
PUBLISHED = """
1 2 3 3 2 1 4 1 2 . . .
1 2 3 3 2 2 4 1 2 5 . 3
. 3 3 3 2 3 4 2 2 5 1 .
1 2 3 3 2 4 4 1 2 5 1 .
"""
"""Krippendorff 2011, section C: four observers, twelve units."""


def codes_of(table: list[list[int]]) -> np.ndarray:
    return np.array(table, np.int8).reshape(len(table), len(table[0]) if table else 0)


def alpha_by_definition(table: list[list[int]]) -> float | None:
    """1 - observed / expected disagreement, by counting pairs of verdicts one by one."""
    units = [said for row in table if len(said := [code for code in row if code >= 0]) > 1]
    everything = [code for said in units for code in said]
    observed = sum(
        sum(one != other for one, other in permutations(said, 2)) / (len(said) - 1) for said in units
    )
    pairs = list(permutations(everything, 2))
    expected = sum(one != other for one, other in pairs)
    if not expected:
        return None
    return 1 - (observed / len(everything)) / (expected / len(pairs))


def annotation(
    subject: int, verdict: Verdict | None, model: str = "", origin: Origin = Origin.LLM, raw: str = "x"
) -> Annotation:
    one = Annotation.unasked(
        bytes(8), subject.to_bytes(16, "little"), (f"caption {subject}",), verdict, origin, "a1", 0, 0
    )
    return type(one)(
        **{name: getattr(one, name) for name in one.__slots__} | {"model": model, "raw_answer": raw}
    )


def test_alpha_of_the_published_example() -> None:
    rows = [
        [-1 if word == "." else int(word) for word in line.split()] for line in PUBLISHED.split("\n") if line
    ]
    assert krippendorffs_alpha(codes_of(rows).T) == pytest.approx(0.743, abs=0.0005)


@given(
    st.integers(1, 4).flatmap(
        lambda n: st.lists(st.lists(st.integers(-1, 2), min_size=n, max_size=n), max_size=9)
    )
)
def test_alpha_is_what_its_definition_says(table: list[list[int]]) -> None:
    found, expected = krippendorffs_alpha(codes_of(table)), alpha_by_definition(table)
    assert found == (None if expected is None else pytest.approx(expected))


def test_the_last_readable_verdict_of_each_judge_counts() -> None:
    verdicts = Verdicts(lambda one: not one.raw_answer)
    for one in (
        annotation(1, NO, "a"), annotation(1, YES, "a"), annotation(1, UNSURE, "b", raw=""),
        annotation(1, YES, "c"), annotation(2, YES, "a"), annotation(2, None, origin=Origin.WITHDRAWAL),
        annotation(2, NO, "b"), annotation(2, YES, origin=Origin.HUMAN),
    ):  # fmt: skip
        verdicts.apply(one)
    found = verdicts.agreement(10)
    assert found.judged == {"a": 1, "a1 (person)": 1, "b": 1, "c": 1}
    assert [(p.first, p.second, p.both, p.agreed) for p in found.pairs] == [
        ("a", "c", 1, 1),
        ("a1 (person)", "b", 1, 0),
    ]
    (only,) = found.disputed
    assert (only.texts, only.disagreement, only.frequency) == (("caption 2",), 1.0, None)


def test_what_is_met_often_and_differs_most_comes_first() -> None:
    verdicts = Verdicts(lambda _: False)
    said = {1: (YES, YES, NO), 2: (YES, NO, UNSURE), 3: (YES, YES, NO), 4: (YES, YES, YES)}
    for subject, votes in said.items():
        for model, verdict in zip("abc", votes, strict=True):
            verdicts.apply(annotation(subject, verdict, model))

    def order(frequency: dict[bytes, int] | None) -> list[str]:
        return [one.texts[0][-1] for one in verdicts.agreement(10, frequency).disputed]

    assert order(None) == ["2", "1", "3"]
    assert order({n.to_bytes(16, "little"): n for n in said}) == ["2", "3", "1"]
    assert order({(3).to_bytes(16, "little"): 9}) == ["3", "2", "1"]


def test_without_judges_nothing_is_defined() -> None:
    found = Verdicts(lambda _: False).agreement(10)
    assert (found.judged, found.pairs, found.alpha, found.disputed) == ({}, [], None, [])
