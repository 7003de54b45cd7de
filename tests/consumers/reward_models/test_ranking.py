"""Learning from comparisons: the data set's rules, tiny data, and a score that orders captions."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from onibus.consumers.reward_models.character_cnn import caption_scores, to_bytes, to_rows
from onibus.consumers.reward_models.compared_captions import ComparedCaptions
from onibus.consumers.reward_models.model_file import read_model_file
from onibus.consumers.reward_models.trainer import RewardTrainer
from onibus.consumers.reward_models.unseen import MOST_UNSEEN
from onibus.infra.errors import OnibusError
from onibus.schemas.ids import caption_id, pair_id
from onibus.schemas.records import Annotation, Kind, Origin, Verdict
from tests.consumers.reward_models.annotation_logs import (
    HELPFUL_TEXTS,
    MODEL,
    SPEC_ID,
    TEXTS,
    UNHELPFUL_TEXTS,
    annotation,
    verdict_of,
)


def compared(
    first: str, second: str, verdict: Verdict | None = None, origin: Origin = Origin.RULES
) -> Annotation:
    """A comparison; the verdict is that of the two texts' own if none is given."""
    one, other = verdict_of(first), verdict_of(second)
    own = Verdict.TIE if one is other else Verdict.FIRST if one is Verdict.HELPFUL else Verdict.SECOND
    return replace(
        annotation(first, origin=origin),
        subject_id=pair_id(caption_id(first), caption_id(second)),
        texts=(first, second),
        verdict=None if origin is Origin.WITHDRAWAL else verdict or own,
    )


A, B = UNHELPFUL_TEXTS[0], HELPFUL_TEXTS[0]
PAIRS = [compared(*pair) for pair in combinations(TEXTS[:10], 2)]


def ranking(seed: int = 0, log: list[Annotation] | None = None) -> RewardTrainer:
    trainer = RewardTrainer(MODEL, SPEC_ID, seed, kind=Kind.COMPARE_TWO)
    for offset, one in enumerate(PAIRS if log is None else log):
        trainer.see(0, offset, one)
    return trainer


def trained(trainer: RewardTrainer) -> bytes:
    version = trainer.train()
    assert version is not None
    return version.file.to_bytes()


def test_scores_order_captions_as_the_comparisons_do() -> None:
    trainer = ranking()
    for _ in range(4):
        trained(trainer)
    scores = dict(zip(TEXTS[:10], caption_scores(trainer.network, _rows(TEXTS[:10])), strict=True))
    worst_helpful = min(scores[text] for text in TEXTS[:10] if text in HELPFUL_TEXTS)
    assert worst_helpful > max(scores[text] for text in TEXTS[:10] if text in UNHELPFUL_TEXTS)


def test_two_trainings_from_the_same_log_are_bit_identical_and_so_is_a_resumed_one() -> None:
    one = ranking(3)
    files = [trained(one), trained(one)]
    other = ranking(3)
    assert trained(other) == files[0]
    resumed = RewardTrainer(MODEL, SPEC_ID, 3, read_model_file(files[0]), Kind.COMPARE_TWO)
    for offset, pair in enumerate(PAIRS):
        resumed.see(0, offset, pair)
    assert trained(resumed) == files[1]
    assert trained(ranking(4)) != files[0]


@pytest.mark.parametrize(
    "log",
    [
        [],
        [compared(A, B, Verdict.TIE)],
        [compared(A, B, Verdict.UNSURE)],
        [compared(A, B), compared(A, B, origin=Origin.WITHDRAWAL)],
        [annotation(A), annotation(B)],
    ],
    ids=["nothing", "ties only", "unsure only", "withdrawn", "single captions"],
)
def test_without_a_decided_pair_no_version_is_due(log: list[Annotation]) -> None:
    assert not ranking(log=log).is_due(quiet=True)


def test_one_decided_pair_is_enough_once_nothing_more_comes() -> None:
    trainer = ranking(log=[compared(A, B)])
    assert not trainer.is_due()
    assert trainer.is_due(quiet=True)
    trained(trainer)


def test_a_person_overrules_the_model_and_is_not_overruled() -> None:
    pairs = ComparedCaptions()
    pairs.apply(compared(A, B, Verdict.SECOND))
    pairs.apply(compared(A, B, Verdict.FIRST, Origin.HUMAN))
    pairs.apply(compared(A, B, Verdict.SECOND))
    assert pairs.rows().preferred.tolist() == [1.0]
    assert (len(pairs), pairs.count(Verdict.FIRST)) == (1, 1)


def test_a_model_of_verdicts_is_not_gone_on_with_from_comparisons() -> None:
    file = read_model_file(trained(ranking()))
    with pytest.raises(OnibusError, match="architecture"):
        RewardTrainer(MODEL, SPEC_ID, 0, file, Kind.JUDGE_ONE)


def test_a_version_is_tested_on_pairs_before_it_learns_from_them() -> None:
    log = [compared(*pair) for pair in combinations(TEXTS, 2)]
    trainer = ranking(log=log[:100])
    first = trainer.train()
    assert first is not None
    assert "held_out" not in first.metrics
    for offset, one in enumerate(log[100:], 100):
        trainer.see(0, offset, one)
    second = trainer.train()
    assert second is not None
    told = second.metrics
    assert sum(told[part] for part in ("first", "second", "tie", "unsure")) == len(log) == told["labels"]
    decided = [one for one in log[100:] if one.verdict in (Verdict.FIRST, Verdict.SECOND)]
    assert told["held_out"] == min(len(decided), MOST_UNSEEN)
    assert 0.5 < told["held_out_accuracy"] <= 1
    assert 0 <= told["held_out_brier"] < 0.5


def _rows(captions: list[str]) -> np.ndarray:
    return to_rows([to_bytes(text) for text in captions])
