"""The fold of the annotation log: what is in force, what trains."""

from __future__ import annotations

import numpy as np
import pytest

from onibus.consumers.reward_models.labelled_captions import LabelledCaptions
from onibus.consumers.reward_models.unseen import is_held_out
from onibus.schemas import ids
from onibus.schemas.records import Origin, Verdict
from tests.consumers.reward_models.annotation_logs import annotation

HELPFUL, UNHELPFUL, UNSURE = Verdict.HELPFUL, Verdict.UNHELPFUL, Verdict.UNSURE
RULES, LLM, HUMAN, WITHDRAWAL = Origin.RULES, Origin.LLM, Origin.HUMAN, Origin.WITHDRAWAL


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
        captions.apply(annotation("a caption", verdict, origin))
    counts = {v: captions.count(v) for v in (HELPFUL, UNHELPFUL, UNSURE)}
    assert counts == {v: int(v is in_force) for v in counts}
    assert len(captions) == int(in_force is not None)
    rows = captions.rows()
    assert rows.helpful.tolist() == ([in_force is HELPFUL] if in_force in (HELPFUL, UNHELPFUL) else [])
    assert rows.captions.shape == (len(rows.helpful), 256)


def test_every_caption_trains() -> None:
    """onibus 0.1.0 kept "You kill the jackal!" and every sixteenth caption from all models in all runs."""
    texts = ["You kill the jackal!", *(f"caption {n}" for n in range(100))]
    captions = LabelledCaptions()
    for text in texts:
        captions.apply(annotation(text, HELPFUL))
    assert len(captions.rows().helpful) == len(texts)


def test_a_sixteenth_tests_where_all_data_is_there_from_the_start_another_one_with_another_seed() -> None:
    ids_of = [ids.caption_id(f"caption {n}") for n in range(10_000)]
    first, second = ([is_held_out(one, seed) for one in ids_of] for seed in (0, 1))
    assert np.mean(first) == pytest.approx(1 / 16, abs=0.01)
    assert np.mean(np.array(first) & np.array(second)) == pytest.approx(1 / 256, abs=0.003)
    assert first == [is_held_out(one, 0) for one in ids_of]


def test_a_sample_has_the_same_captions_of_each_verdict_as_the_log_grows() -> None:
    captions = LabelledCaptions()
    for number in range(40):
        captions.apply(annotation(f"caption {number}", HELPFUL if number % 4 == 0 else UNHELPFUL))
    rows = captions.rows(5)
    assert (len(rows.helpful), rows.helpful.sum()) == (10, 5)


def test_rows_do_not_depend_on_the_order_in_which_captions_came() -> None:
    forwards, backwards = LabelledCaptions(), LabelledCaptions()
    log = [annotation(f"caption {n}", HELPFUL if n % 3 else UNHELPFUL) for n in range(40)]
    for one, other in zip(log, reversed(log), strict=True):
        forwards.apply(one)
        backwards.apply(other)
    a, b = forwards.rows(), backwards.rows()
    assert np.array_equal(a.captions, b.captions)
    assert np.array_equal(a.helpful, b.helpful)


def test_long_captions_are_cut_at_256_bytes() -> None:
    captions = LabelledCaptions()
    captions.apply(annotation("é" * 300, HELPFUL))
    assert bytes(captions.rows().captions[0]) == ("é" * 128).encode()
