"""The scale of ranking scores: measured by each version, the same for every policy."""

from __future__ import annotations

import copy
import json
import statistics
from dataclasses import asdict, replace
from hashlib import sha256
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from onibus.consumers.reward_models import compared_captions
from onibus.consumers.reward_models.character_cnn import (
    SCORE,
    CharacterCNN,
    caption_scores,
    to_bytes,
    to_rows,
)
from onibus.consumers.reward_models.model_file import ModelFile, Provenance, read_model_file
from onibus.consumers.reward_models.ranking import Ranking
from onibus.consumers.reward_models.score_scale import LARGEST, ScoreScale
from onibus.consumers.reward_models.trainer import RewardTrainer
from onibus.consumers.reward_models.transfer import WholeFile
from onibus.learner.rewards.formulas import ModelReward, SpecReward
from onibus.learner.rewards.score_to_reward import NormalisedAboveThreshold
from onibus.learner.rewards.scores import ModelScores
from onibus.schemas.ids import caption_id, lookup_id
from onibus.schemas.records import Kind
from tests.consumers.reward_models.annotation_logs import MODEL, SPEC_ID, TEXTS
from tests.consumers.reward_models.test_ranking import PAIRS, compared
from tests.learner.rewards.recorded_play import comparisons, helpful_ids, recorded_play

IDS = {lookup_id(caption_id(text)): text for text in TEXTS[:10]}


def ranking_file(objective: Ranking, network: CharacterCNN, number: int = 1, **changed: object) -> WholeFile:
    """A version of these weights, with the scale that its trainer gives it."""
    made = Provenance(
        MODEL,
        number,
        objective.architecture,
        SPEC_ID.hex(),
        0,
        {},
        32,
        5,
        "",
        objective.normalisation(network),
    )
    data = ModelFile(replace(made, **changed), network.state_dict(), {}).to_bytes()  # type: ignore[arg-type]
    return WholeFile(MODEL, number, data, sha256(data).digest())


def objective_with(pairs: list) -> Ranking:  # type: ignore[type-arg]
    objective = Ranking()
    for pair in pairs:
        objective.data.apply(pair)
    return objective


def judging(threshold: float = 0.0, quantile: float | None = None) -> ModelScores:
    scores = ModelScores(NormalisedAboveThreshold(threshold, quantile), ranks=True)
    scores.add(IDS)
    return scores


def rewards_under(file: WholeFile) -> np.ndarray:
    scores = judging()
    assert scores.take(SPEC_ID, file, 1.0)
    return scores.rewards(SPEC_ID, np.array([*IDS]))


@given(st.integers(0, 50), st.floats(-100, 100))
@settings(max_examples=15, deadline=None)
def test_a_constant_added_to_all_scores_changes_no_reward(seed: int, constant: float) -> None:
    objective = objective_with(PAIRS)
    torch.manual_seed(seed)
    network = objective.network()
    shifted = copy.deepcopy(network)
    last = shifted.head[-1]
    assert isinstance(last, torch.nn.Linear)
    with torch.no_grad():
        last.bias += constant
    own = rewards_under(ranking_file(objective, network))
    assert own.any()
    deviation = ScoreScale.from_figures(objective.normalisation(network)).deviation  # type: ignore[union-attr]
    np.testing.assert_allclose(
        rewards_under(ranking_file(objective, shifted)), own, atol=2e-4 / min(1.0, deviation)
    )


@pytest.mark.parametrize("share", [0.03, 0.5, 0.9])
def test_a_caption_is_worth_the_same_however_often_a_policy_brings_it_about(share: float) -> None:
    objective = objective_with(PAIRS)
    torch.manual_seed(0)
    file = ranking_file(objective, objective.network())
    worth = rewards_under(file)
    best, others = np.array([*IDS])[np.argmax(worth)], np.array([*IDS])[worth < worth.max()]
    scores = judging()
    scores.take(SPEC_ID, file, 1.0)
    reward = ModelReward(scores, count_beta=3.0)
    reward.specs = [SpecReward(SPEC_ID, 1.0)]
    rng = np.random.default_rng(0)
    for _ in range(20):
        ids = np.where(rng.random(1024) < share, best, rng.choice(others, 1024))
        paid = reward(ids, np.ones(1024, np.int64)).intrinsic
    assert set(paid[ids == best].tolist()) == {worth.max()}
    assert worth.max() > 0


@pytest.mark.slow
def test_the_paid_share_of_a_recorded_run_hardly_moves_across_40_swaps() -> None:
    play = recorded_play(40_000)
    captioned = play.ids != 0
    trainer, scores = RewardTrainer(MODEL, SPEC_ID, 0, kind=Kind.COMPARE_TWO), judging()
    scores.add(play.texts)
    reward = ModelReward(scores, count_beta=3.0)
    reward.specs = [SpecReward(SPEC_ID, 1.0)]
    log = list(comparisons(play))
    begun, paid = len(log) // 5, []
    for offset, one in enumerate(log):
        trainer.see(0, offset, one)
        if offset % 64 == 0 and (trainer.is_due() or offset >= begun):
            version = trainer.train()
            assert version is not None
            data = version.file.to_bytes()
            scores.take(SPEC_ID, WholeFile(MODEL, trainer.version, data, sha256(data).digest()), 1.0)
            if offset >= begun:
                intrinsic = reward(play.ids, play.counts).intrinsic
                paid.append(np.count_nonzero(intrinsic[captioned]) / np.count_nonzero(captioned))
        if len(paid) > 40:
            break
    assert len(paid) == 41
    assert np.abs(np.diff(paid)).max() < 0.02
    assert max(paid) - min(paid) < 0.02
    helpful = np.isin(play.ids[captioned], [*helpful_ids(play)]).mean()
    assert paid[-1] == pytest.approx(helpful, abs=0.02)


@given(st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=300))
def test_the_scale_is_what_the_standard_library_computes(scores: list[float]) -> None:
    scale = ScoreScale.of(np.array(scores, np.float32))
    assert scale.captions == len(scores)
    assert scale.mean == pytest.approx(statistics.fmean(scores), abs=1e-4)
    assert scale.deviation == pytest.approx(statistics.pstdev(scores), abs=1e-4)
    if len(scores) > 1:
        cuts = statistics.quantiles(scores, n=100, method="inclusive")
        for percent, cut in enumerate(cuts, 1):
            assert scale.quantile(percent / 100) == pytest.approx(cut, abs=1e-4)
    assert ScoreScale.from_figures(scale.figures()) == scale


def test_a_version_measures_every_caption_that_was_compared_once() -> None:
    often = [compared(TEXTS[0], TEXTS[1])] * 50
    objective = objective_with([*often, *PAIRS])
    network = objective.network()
    scores = caption_scores(network, to_rows([to_bytes(text) for text in TEXTS[:10]]))
    scale = ScoreScale.from_figures(objective.normalisation(network))
    assert scale is not None
    assert (scale.captions, scale.mean) == (10, pytest.approx(float(scores.mean()), abs=1e-5))


def test_of_many_captions_the_same_sample_is_measured_in_whatever_order_they_came(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compared_captions, "MOST_SAMPLED", 6)
    pairs = [compared(*pair) for pair in combinations(TEXTS[:20], 2)]
    samples = [objective_with(log)._pairs.sample() for log in (pairs, pairs[::-1], pairs * 2)]
    assert samples[0].shape == (6, 256)
    for sample in samples[1:]:
        assert np.array_equal(sample, samples[0])


def test_a_threshold_in_deviations_and_one_by_quantile() -> None:
    raw = np.arange(101, dtype=np.float32)
    scale = ScoreScale.of(raw)
    above = NormalisedAboveThreshold(1.0)(raw, scale)
    assert np.array_equal(above > 0, raw > scale.mean + scale.deviation)
    np.testing.assert_allclose(above[above > 0], ((raw - 50) / raw.std())[above > 0], rtol=1e-5)
    by_quantile = NormalisedAboveThreshold(0.0, quantile=0.9)(raw, scale)
    assert np.flatnonzero(by_quantile).tolist() == list(range(91, 101))


@pytest.mark.parametrize(
    "shape", [NormalisedAboveThreshold(-2.0), NormalisedAboveThreshold(0.0, quantile=0.1)]
)
def test_a_better_score_is_never_worth_less(shape: NormalisedAboveThreshold) -> None:
    raw = np.sort(np.random.default_rng(0).exponential(size=200).astype(np.float32))
    paid = shape(raw, ScoreScale.of(raw))
    assert (np.diff(paid) >= 0).all()
    assert paid.min() == 0.0


def test_while_all_scores_are_the_same_nothing_is_paid_and_a_rare_one_not_without_bound() -> None:
    same = np.full(9, 7.0, np.float32)
    assert not NormalisedAboveThreshold(0.0)(same, ScoreScale.of(same)).any()
    rare = np.array([0.0] * 1_000 + [1.0], np.float32)
    assert NormalisedAboveThreshold(0.0)(rare, ScoreScale.of(rare)).max() == LARGEST


def test_versions_of_an_older_onibus_are_measured_on_the_captions_at_hand_and_that_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    objective = objective_with(PAIRS)
    torch.manual_seed(0)
    network = objective.network()
    scores = judging()
    for number in (1, 2):
        file = ranking_file(objective, network, number, normalisation={})
        assert b"normalisation" not in file.data[:2_000], "as onibus 0.1.0 wrote it"
        assert scores.take(SPEC_ID, file, 1.0)
    assert len([line for line in caplog.messages if "older onibus" in line]) == 1
    np.testing.assert_allclose(
        scores.rewards(SPEC_ID, np.array([*IDS])), rewards_under(ranking_file(objective, network)), atol=1e-4
    )


def test_a_file_of_a_newer_onibus_is_read_without_what_is_new_in_it() -> None:
    objective = objective_with(PAIRS)
    known = read_model_file(ranking_file(objective, CharacterCNN(SCORE)).data)
    tensors = {f"weights/{name}": tensor for name, tensor in known.weights.items()}
    newer = save(tensors, {"onibus": json.dumps(asdict(known.provenance) | {"of_tomorrow": 1})})
    assert read_model_file(newer).provenance == known.provenance
