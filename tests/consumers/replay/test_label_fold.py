"""The fold of the annotation log: what is in force, and that it is what reward models learn from."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.replay.annotation_reader import LoggedAnnotation
from consumers.replay.label_fold import LabelFold
from consumers.reward_models.labelled_captions import LabelledCaptions, is_held_out
from schemas import ids
from schemas.records import Annotation, Origin, Verdict
from tests.consumers.reward_models import SPEC_ID, TEXTS, annotation

HELPFUL, UNHELPFUL, UNSURE = Verdict.HELPFUL, Verdict.UNHELPFUL, Verdict.UNSURE
LLM, HUMAN, WITHDRAWAL = Origin.LLM, Origin.HUMAN, Origin.WITHDRAWAL

Answer = tuple[Verdict | None, Origin]


def fold_of(annotations: list[Annotation]) -> LabelFold:
    return LabelFold(LoggedAnnotation(0, n, n, one) for n, one in enumerate(annotations))


@pytest.mark.parametrize(
    ("log", "in_force", "decides"),
    [
        ([(HELPFUL, LLM)], HELPFUL, 0),
        ([(HELPFUL, LLM), (UNHELPFUL, LLM)], UNHELPFUL, 1),
        ([(HELPFUL, HUMAN), (UNHELPFUL, LLM)], HELPFUL, 0),
        ([(HELPFUL, HUMAN), (UNHELPFUL, HUMAN)], UNHELPFUL, 1),
        ([(HELPFUL, HUMAN), (None, WITHDRAWAL)], None, 1),
        ([(HELPFUL, HUMAN), (None, WITHDRAWAL), (UNHELPFUL, LLM)], UNHELPFUL, 2),
    ],
)
def test_the_newest_counts_a_persons_over_a_models_until_it_is_withdrawn(
    log: list[Answer], in_force: Verdict | None, decides: int
) -> None:
    fold = fold_of([annotation(TEXTS[0], verdict, origin) for verdict, origin in log])
    label = fold.get(SPEC_ID, ids.caption_id(TEXTS[0]))
    assert label is not None
    assert (label.verdict, label.offset, label.annotations) == (in_force, decides, len(log))


answers = st.sampled_from(
    [(v, o) for v in (HELPFUL, UNHELPFUL, UNSURE) for o in (LLM, HUMAN)] + [(None, WITHDRAWAL)]
)


@given(st.lists(st.tuples(st.sampled_from(TEXTS[:4]), answers), max_size=30))
def test_it_is_what_reward_models_learn_from(log: list[tuple[str, Answer]]) -> None:
    annotations = [annotation(text, verdict, origin) for text, (verdict, origin) in log]
    fold, captions = fold_of(annotations), LabelledCaptions()
    for one in annotations:
        captions.apply(one)
    for verdict in (HELPFUL, UNHELPFUL, UNSURE):
        for held_out in (False, True):
            counted = [x for x in fold if x.verdict is verdict and is_held_out(x.subject_id) == held_out]
            assert len(counted) == captions.count(verdict, held_out=held_out)


def test_costs_add_up_whoever_is_in_force() -> None:
    from dataclasses import replace

    dear = replace(annotation(TEXTS[0], HELPFUL, LLM), tokens_in=100, tokens_out=7, latency_us=5)
    fold = fold_of([dear, annotation(TEXTS[0], UNHELPFUL, HUMAN), dear])
    (label,) = fold
    assert (label.verdict, label.tokens_in, label.tokens_out, label.latency_us) == (UNHELPFUL, 200, 14, 10)
