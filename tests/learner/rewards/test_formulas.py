"""What the learner is paid: the formula of the README, case by case."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from onibus.consumers.labels.table import HELPFUL, LabelTable
from onibus.learner.options import make_options
from onibus.learner.rewards.formulas import (
    ModelReward,
    NoReward,
    RetrievalReward,
    SpecReward,
    weigh_extrinsic,
)
from onibus.schemas.codec import encode
from onibus.schemas.ids import caption_id, label_key, lookup_id
from onibus.schemas.records import Label, Verdict

GOALS, COMBAT = b"goals...", b"combat.."


def label(verdict: Verdict) -> bytes:
    return encode(Label(verdict, 0, 0, 1, 2, "test"))


def table_of(*labels: tuple[bytes, str, Verdict]) -> LabelTable:
    table = LabelTable()
    table.apply(
        [label_key(spec, caption_id(text)) for spec, text, _ in labels], [label(v) for _, _, v in labels]
    )
    return table


def ids_of(*texts: str | None) -> NDArray[np.int64]:
    return np.array([0 if t is None else lookup_id(caption_id(t)) for t in texts], dtype=np.int64)


def reward_of(table: LabelTable, *specs: tuple[bytes, float], beta: float = 3.0) -> RetrievalReward:
    reward = RetrievalReward(table, beta)
    reward.specs = [SpecReward(spec, coefficient) for spec, coefficient in specs]
    return reward


def test_the_helpful_code_is_the_label_tables() -> None:
    table = table_of((GOALS, "a", Verdict.HELPFUL))
    assert table.verdicts(GOALS, ids_of("a"))[0] == HELPFUL


def test_only_helpful_captions_are_paid_and_repeats_fade() -> None:
    table = table_of(
        (GOALS, "key", Verdict.HELPFUL), (GOALS, "wall", Verdict.UNHELPFUL), (GOALS, "odd", Verdict.UNSURE)
    )
    ids = ids_of("key", "key", "wall", "odd", "unknown", None)
    counts = np.array([1, 2, 1, 1, 1, 0])
    rewarded = reward_of(table, (GOALS, 0.5))(ids, counts)
    np.testing.assert_allclose(rewarded.intrinsic, [0.5, 0.5 / 8, 0, 0, 0, 0])
    assert rewarded.intrinsic.dtype == np.float32


def test_several_specifications_add_up_with_their_coefficients() -> None:
    table = table_of(
        (GOALS, "a", Verdict.HELPFUL), (COMBAT, "a", Verdict.HELPFUL), (COMBAT, "b", Verdict.HELPFUL)
    )
    reward = reward_of(table, (GOALS, 0.4), (COMBAT, 0.1))
    rewarded = reward(ids_of("a", "b"), np.array([1, 1]))
    np.testing.assert_allclose(rewarded.intrinsic, [0.5, 0.1], rtol=1e-6)
    reward.specs = [SpecReward(GOALS, 0.4, "goals"), SpecReward(COMBAT, 0.1, "combat")]
    rewarded = reward(ids_of("a", "b", None), np.array([2, 1, 0]))
    assert rewarded.by_spec == pytest.approx({"goals": 0.4 / 8, "combat": 0.1 / 8 + 0.1})
    assert sum(rewarded.by_spec.values()) == pytest.approx(float(rewarded.intrinsic.sum()))
    reward.specs = reward.specs[:1]
    assert reward(ids_of("a"), np.array([1])).by_spec == {}, "it is all of the reward"


def test_coverage_is_the_share_of_captioned_steps_with_a_label() -> None:
    table = table_of((GOALS, "a", Verdict.UNHELPFUL))
    rewarded = reward_of(table, (GOALS, 1.0))(ids_of("a", "b", None, None), np.array([1, 1, 0, 0]))
    assert rewarded.coverage == 0.5


def test_a_batch_without_captions_has_no_coverage() -> None:
    rewarded = reward_of(table_of(), (GOALS, 1.0))(ids_of(None, None), np.array([0, 0]))
    assert math.isnan(rewarded.coverage)
    assert not rewarded.intrinsic.any()


def test_without_specifications_nothing_is_paid() -> None:
    table = table_of((GOALS, "a", Verdict.HELPFUL))
    assert not reward_of(table)(ids_of("a"), np.array([1])).intrinsic.any()


def test_no_reward_is_zero_for_every_caption() -> None:
    rewarded = NoReward()(ids_of("a", None), np.array([1, 0]))
    assert not rewarded.intrinsic.any()
    assert rewarded.intrinsic.shape == (2,)


@given(
    arrays.arrays(np.int64, st.tuples(st.integers(1, 4), st.integers(1, 6)), elements=st.integers(0, 5)),
    st.floats(0, 5),
)
def test_vectorised_rewards_equal_the_formula_step_by_step(choice: NDArray[np.int64], beta: float) -> None:
    texts = [None, "a", "b", "c", "d", "e"]
    table = table_of(
        (GOALS, "a", Verdict.HELPFUL), (GOALS, "b", Verdict.UNHELPFUL), (GOALS, "c", Verdict.HELPFUL)
    )
    ids = ids_of(*(texts[c] for c in choice.reshape(-1))).reshape(choice.shape)
    counts = np.where(choice == 0, 0, choice + 1)
    rewarded = reward_of(table, (GOALS, 0.3), beta=beta)(ids, counts)
    for place, which in np.ndenumerate(choice):
        expected = 0.3 / counts[place] ** beta if texts[which] in ("a", "c") else 0.0
        assert rewarded.intrinsic[place] == pytest.approx(expected, rel=1e-5)


def test_the_extrinsic_reward_is_scaled_then_clipped_then_weighed() -> None:
    rewards = torch.tensor([[-500.0, -1.0, 0.0], [4.0, 50.0, 500.0]])
    same = weigh_extrinsic(rewards, 0.5, scale=0.1, clip=10.0)
    assert same is rewards, "in place: the learner's batch"
    torch.testing.assert_close(rewards, torch.tensor([[-5.0, -0.05, 0.0], [0.2, 2.5, 5.0]]))
    unlimited = torch.tensor([1000.0, -1000.0])
    torch.testing.assert_close(weigh_extrinsic(unlimited, 2.0), torch.tensor([2000.0, -2000.0]))


@pytest.mark.parametrize(("task", "clip"), [("score", 10.0), ("oracle", 10.0), ("keyroom-s5", None)])
def test_nethack_s_own_reward_is_clipped_and_minihack_s_is_not(task: str, clip: float | None) -> None:
    assert make_options(task, run="r").extrinsic_clip == clip


class Worth:
    """Every caption is worth this much to a model."""

    def __init__(self, worth: float) -> None:
        self._worth = worth

    def rewards(self, spec_id: bytes, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.where(ids == 0, np.nan, self._worth).astype(np.float32)

    def complete(self, ids: NDArray[np.int64]) -> None:
        raise AssertionError("all of them are scored")


@pytest.mark.parametrize("worth", [0.0, 1.0])
def test_a_known_label_counts_whatever_the_model_says_and_unsure_is_none(worth: float) -> None:
    table = table_of(
        (GOALS, "key", Verdict.HELPFUL), (GOALS, "wall", Verdict.UNHELPFUL), (GOALS, "odd", Verdict.UNSURE)
    )
    ids, counts = ids_of("key", "wall", "odd", "new", None), np.array([1, 1, 1, 1, 0])
    for labels, expected in ((table, [1.0, 0.0, worth, worth, 0.0]), (None, [worth] * 4 + [0.0])):
        reward = ModelReward(Worth(worth), 3.0, labels)
        reward.specs = [SpecReward(GOALS, 0.5)]
        assert reward(ids, counts).intrinsic.tolist() == [0.5 * x for x in expected]
