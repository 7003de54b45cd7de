"""The fold of the annotation log: what is in force, and that it is what reward models learn from."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onibus.consumers.labels.annotation_log_reader import LoggedAnnotation
from onibus.consumers.labels.fold import LabelFold
from onibus.consumers.reward_models.labelled_captions import LabelledCaptions
from onibus.schemas import ids
from onibus.schemas.records import Annotation, Origin, Verdict
from tests.consumers.reward_models.annotation_logs import SPEC_ID, TEXTS, annotation

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
def test_the_newest_verdict_counts_but_a_persons_overrides_a_models_until_withdrawn(
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
        assert len([x for x in fold if x.verdict is verdict]) == captions.count(verdict)


def test_costs_add_up_whichever_verdict_is_in_force() -> None:
    from dataclasses import replace

    dear = replace(annotation(TEXTS[0], HELPFUL, LLM), tokens_in=100, tokens_out=7, latency_us=5)
    fold = fold_of([dear, annotation(TEXTS[0], UNHELPFUL, HUMAN), dear])
    (label,) = fold
    assert (label.verdict, label.tokens_in, label.tokens_out, label.latency_us) == (UNHELPFUL, 200, 14, 10)


@given(st.lists(st.tuples(answers, st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)), min_size=1))
def test_a_label_has_its_deciding_annotations_fields_and_the_sums_of_all(
    log: list[tuple[Answer, int, int, int]],
) -> None:
    logged = [
        LoggedAnnotation(
            n % 3, n, 1_000 + n,
            replace(
                annotation(TEXTS[0], verdict, origin, at=2_000 + n), observed_at=n, reason=f"reason {n}",
                annotator=f"annotator {n}", tokens_in=tokens_in, tokens_out=tokens_out, latency_us=latency_us,
            ),
        )
        for n, ((verdict, origin), tokens_in, tokens_out, latency_us) in enumerate(log)
    ]  # fmt: skip
    fold = LabelFold(logged)
    (label,) = fold
    origins = [origin for (_, origin), *_ in log]
    withdrawn = max((n for n, origin in enumerate(origins) if origin is WITHDRAWAL), default=-1)
    by_people = [n for n, origin in enumerate(origins) if origin is HUMAN and n > withdrawn]
    decides = by_people[-1] if by_people else len(log) - 1
    said = [(None if o is WITHDRAWAL else v) for (v, o), *_ in log if o is not HUMAN]
    one, annotation_of = logged[decides], logged[decides].annotation
    assert annotation_of is not None
    assert fold.annotations == label.annotations == len(log)
    assert [label.tokens_in, label.tokens_out, label.latency_us] == [
        sum(x[n] for x in log) for n in (1, 2, 3)
    ]
    assert label.by_annotators is (said[-1] if said else None)
    assert label.verdict is (None if annotation_of.origin is WITHDRAWAL else annotation_of.verdict)
    assert (label.partition, label.offset, label.written_at) == (one.partition, one.offset, one.written_at)
    for name in (
        "spec_id", "subject_id", "texts", "origin", "annotator", "reason", "observed_at", "annotated_at"
    ):  # fmt: skip
        assert getattr(label, name) == getattr(annotation_of, name), name
