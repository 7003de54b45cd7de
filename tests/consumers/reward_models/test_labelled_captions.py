"""The fold of the annotation log: what is in force, what trains, what is held out."""

from __future__ import annotations

import numpy as np
import pytest

from onibus.consumers.reward_models.labelled_captions import LabelledCaptions
from onibus.consumers.reward_models.objective import is_held_out
from onibus.schemas import ids
from onibus.schemas.records import Origin, Verdict
from tests.consumers.reward_models.annotation_logs import annotation

HELPFUL, UNHELPFUL, UNSURE = Verdict.HELPFUL, Verdict.UNHELPFUL, Verdict.UNSURE
RULES, LLM, HUMAN, WITHDRAWAL = Origin.RULES, Origin.LLM, Origin.HUMAN, Origin.WITHDRAWAL

TRAINED = next(text for n in range(100) if not is_held_out(ids.caption_id(text := f"caption {n}")))
HELD_OUT = next(text for n in range(100) if is_held_out(ids.caption_id(text := f"caption {n}")))


@pytest.mark.parametrize(
    ("log", "in_force"),
    [
        ([(HELPFUL, RULES)], HELPFUL),
        ([(HELPFUL, LLM), (UNHELPFUL, LLM)], UNHELPFUL),
        ([(HELPFUL, HUMAN), (UNHELPFUL, LLM)], HELPFUL),
        ([(HELPFUL, LLM), (UNHELPFUL, HUMAN)], UNHELPFUL),
        ([(HELPFUL, HUMAN), (UNHELPFUL, HUMAN)], UNHELPFUL),
        ([(HELPFUL, LLM), (None, WITHDRAWAL)], None),
        ([(HELPFUL, HUMAN), (None, WITHDRAWAL), (UNHELPFUL, LLM)], UNHELPFUL),
        ([(None, WITHDRAWAL)], None),
        ([(HELPFUL, LLM), (UNSURE, LLM)], UNSURE),
    ],
)
def test_the_newest_verdict_counts_a_persons_over_a_models_and_a_withdrawn_one_not(
    log: list[tuple[Verdict | None, Origin]], in_force: Verdict | None
) -> None:
    captions = LabelledCaptions()
    for verdict, origin in log:
        captions.apply(annotation(TRAINED, verdict, origin))
    counts = {v: captions.count(v, held_out=False) for v in (HELPFUL, UNHELPFUL, UNSURE)}
    assert counts == {v: int(v is in_force) for v in counts}
    assert len(captions) == int(in_force is not None)
    rows = captions.rows(held_out=False)
    assert rows.helpful.tolist() == ([in_force is HELPFUL] if in_force in (HELPFUL, UNHELPFUL) else [])
    assert rows.captions.shape == (len(rows.helpful), 256)


def test_held_out_captions_never_train() -> None:
    captions = LabelledCaptions()
    captions.apply(annotation(HELD_OUT, HELPFUL))
    captions.apply(annotation(TRAINED, UNHELPFUL))
    assert not captions.can_teach, "the only helpful caption is held out"
    assert captions.rows(held_out=False).helpful.tolist() == [False]
    assert captions.rows(held_out=True).helpful.tolist() == [True]


def test_about_a_sixteenth_is_held_out() -> None:
    assert np.mean([is_held_out(ids.caption_id(f"caption {n}")) for n in range(10_000)]) == pytest.approx(
        1 / 16, abs=0.01
    )


def test_rows_do_not_depend_on_the_order_in_which_captions_came() -> None:
    forwards, backwards = LabelledCaptions(), LabelledCaptions()
    log = [annotation(f"caption {n}", HELPFUL if n % 3 else UNHELPFUL) for n in range(40)]
    for one, other in zip(log, reversed(log), strict=True):
        forwards.apply(one)
        backwards.apply(other)
    for held_out in (False, True):
        a, b = forwards.rows(held_out=held_out), backwards.rows(held_out=held_out)
        assert np.array_equal(a.captions, b.captions)
        assert np.array_equal(a.helpful, b.helpful)


def test_long_captions_are_cut_at_256_bytes() -> None:
    captions = LabelledCaptions()
    captions.apply(annotation("é" * 300, HELPFUL))
    rows = np.concatenate([captions.rows(held_out=part).captions for part in (False, True)])
    assert bytes(rows[0]) == ("é" * 128).encode()
