"""Few captions are helpful and the judge wavers: what is rewarded is helpful all the same."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from onibus.consumers.labels.agreement import binary_figures
from onibus.consumers.reward_models.character_cnn import helpful_probability, to_bytes, to_rows
from onibus.consumers.reward_models.trainer import RewardTrainer
from onibus.schemas.records import Verdict
from tests.consumers.reward_models.annotation_logs import MODEL, SPEC_ID, annotation

HELPFUL_SHARE = 0.05
WAVERING = 0.1
"""Share of the captions on which the judge tosses a coin."""

_MONSTERS = [
    "newt",
    "jackal",
    "sewer-rat",
    "grid-bug",
    "kobold",
    "gnome",
    "lichen",
    "acid-blob",
    "dwarf",
    "bat",
    "gecko",
    "giant-ant",
    "imp",
    "fox",
]
_THINGS = [
    "scroll",
    "potion",
    "ring",
    "wand",
    "dagger",
    "arrow",
    "rock",
    "gem",
    "apple",
    "candle",
    "cloak",
    "helmet",
    "boots",
    "spear",
    "bow",
    "axe",
]
_KINDS = [
    "red",
    "blue",
    "cursed",
    "old",
    "shiny",
    "rusty",
    "glowing",
    "tiny",
    "huge",
    "broken",
    "uncursed",
    "fluted",
    "clear",
    "murky",
]
_HELPFUL = (
    "You kill the {m}!", "You feel more confident in your {t} skills.", "Welcome to experience level {n}.",
    "{c} - {n} gold pieces.", "You find a hidden {t} beside the {k} {m}.", "You hit the {m}.  You kill it!",
)  # fmt: skip
_UNHELPFUL = (
    "You see here a {k} {t}.", "The {m} misses you.", "You miss the {m}.", "You hear the {m} {n} times.",
    "The {m} hits! You have {n} hit points.", "There is a {k} {t} here; {n} of them.", "It's a {k} wall {n}.",
    "What do you want to {t} with? [{c} or ?*]", "You stop. The {k} {m} is in the way.", "The {k} {t} glows.",
    "The {m} turns to flee. / The {k} {t} is yours",
)  # fmt: skip


@dataclass(frozen=True)
class Judgement:
    """p(helpful) of captions, what they are, and what the judge said or would say of them."""

    probability: NDArray[np.float64]
    true: NDArray[np.bool_]
    said: NDArray[np.bool_]


def captions(count: int, rng: np.random.Generator) -> tuple[list[str], NDArray[np.bool_]]:
    """Different captions, and which of them are helpful."""
    found: dict[str, bool] = {}
    while len(found) < count:
        helpful = bool(rng.random() < HELPFUL_SHARE)
        text = str(rng.choice(_HELPFUL if helpful else _UNHELPFUL)).format(
            m=rng.choice(_MONSTERS), t=rng.choice(_THINGS), k=rng.choice(_KINDS), n=rng.integers(2, 99),
            c=rng.choice([*"abcdefgh"]),
        )  # fmt: skip
        found[text] = helpful
    return list(found), np.array([*found.values()])


@cache
def judged() -> tuple[Judgement, Judgement]:
    """A model that learned online from a wavering judge: on its own captions, and on new ones."""
    rng = np.random.default_rng(0)
    texts, true = captions(2_400, rng)
    said = np.where(rng.random(len(true)) < WAVERING, rng.random(len(true)) < 0.5, true)
    learnt = 1_600
    trainer = RewardTrainer(MODEL, SPEC_ID, 0)
    for offset in range(learnt):
        verdict = Verdict.HELPFUL if said[offset] else Verdict.UNHELPFUL
        trainer.see(0, offset, annotation(texts[offset], verdict))
        if trainer.is_due():
            trainer.train()
    while trainer.is_due(quiet=True):
        trainer.train()
    probability = helpful_probability(trainer.network, to_rows([to_bytes(t) for t in texts])).astype(
        np.float64
    )
    parts = slice(None, learnt), slice(learnt, None)
    own, new = (Judgement(probability[part], true[part], said[part]) for part in parts)
    return own, new


@pytest.mark.slow
def test_what_is_rewarded_is_helpful_though_few_are_and_the_judge_wavers() -> None:
    """With balanced draws precision was 0.53 on captions with a label and 0.62 on new ones."""
    own, new = (binary_figures(one.probability, one.true, 0.5) for one in judged())
    assert new.precision is not None
    assert new.recall is not None
    assert new.precision > 0.8
    assert new.recall > 0.8
    assert own.precision is not None
    assert own.precision > 0.7


@pytest.mark.slow
def test_probabilities_are_as_often_right_as_they_say() -> None:
    _, new = judged()
    figures = binary_figures(new.probability, new.said, 0.5)
    off = sum(bin.count * abs(bin.mean_probability - bin.share_true) for bin in figures.calibration)
    assert off / figures.count < 0.05  # expected calibration error (Naeini 2015)
    assert new.probability.mean() == pytest.approx(new.said.mean(), abs=0.03)
