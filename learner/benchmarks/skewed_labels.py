"""Few captions are helpful and the judge wavers: what models would reward, against the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onibus.consumers.labels.agreement import BinaryFigures, binary_figures
from onibus.consumers.reward_models.character_cnn import helpful_probability, to_bytes, to_rows
from onibus.consumers.reward_models.trainer import RewardTrainer
from onibus.infra.reward_kinds import P_HELPFUL_THRESHOLD
from onibus.learner.benchmarks.result import Figure
from onibus.schemas.ids import caption_id
from onibus.schemas.records import Annotation, Origin, Verdict

HELPFUL_SHARE = 0.05
WAVERING = 0.1
"""Share of the captions on which the judge tosses a coin: of those that it calls helpful, half are."""
LEARNED, NEW = 1_600, 800

_SPEC_ID = b"benchmrk"
_MONSTERS = (
    "newt", "jackal", "sewer-rat", "grid-bug", "kobold", "gnome", "lichen", "acid-blob", "dwarf", "bat",
    "gecko", "giant-ant", "imp", "fox",
)  # fmt: skip
_THINGS = (
    "scroll", "potion", "ring", "wand", "dagger", "arrow", "rock", "gem", "apple", "candle", "cloak",
    "helmet", "boots", "spear", "bow", "axe",
)  # fmt: skip
_KINDS = (
    "red", "blue", "cursed", "old", "shiny", "rusty", "glowing", "tiny", "huge", "broken", "uncursed",
    "fluted", "clear", "murky",
)  # fmt: skip
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


@dataclass(frozen=True, slots=True)
class ModelTrial:
    """Of captions: p(helpful), whether they are, and what the judge said or would say.

    Attributes:
        probability: float64 (n,).
        true: bool (n,).
        said: bool (n,).
    """

    probability: NDArray[np.float64]
    true: NDArray[np.bool_]
    said: NDArray[np.bool_]

    @property
    def rewarded(self) -> BinaryFigures:
        """What the model would reward, against the truth."""
        return binary_figures(self.probability, self.true, P_HELPFUL_THRESHOLD)

    @property
    def calibration_error(self) -> float:
        """Expected calibration error against the judge (Naeini 2015, doi 10.1609/aaai.v29i1.9602)."""
        figures = binary_figures(self.probability, self.said, P_HELPFUL_THRESHOLD)
        off = sum(bin.count * abs(bin.mean_probability - bin.share_true) for bin in figures.calibration)
        return off / figures.count


def measure(seeds: Sequence[int]) -> list[Figure]:
    """Means over seeds of captions, judge and training."""
    judged = [judgements(seed) for seed in seeds]
    own, new = ([pair[k] for pair in judged] for k in (0, 1))
    name = "few helpful, a judge that wavers"
    return [
        Figure.at_least(
            f"{name}: precision on new captions", _mean([_precision(one) for one in new]), "share", 0.9
        ),
        Figure(f"{name}: … with the worst seed", min(_precision(one) for one in new), "share"),
        Figure(
            f"{name}: recall on new captions", _mean([one.rewarded.recall or 0.0 for one in new]), "share"
        ),
        Figure(f"{name}: calibration error", _mean([one.calibration_error for one in new]), "share"),
        Figure(
            f"{name}: precision on labelled captions, by the model", _mean([*map(_precision, own)]), "share"
        ),
        Figure(
            f"{name}: … by their labels", _mean([float(np.mean(one.true[one.said])) for one in own]), "share"
        ),
    ]


def judgements(seed: int) -> tuple[ModelTrial, ModelTrial]:
    """A model that learned online from a wavering judge: on its own captions, and on new ones."""
    rng = np.random.default_rng(seed)
    texts, true = captions(LEARNED + NEW, rng)
    said = np.where(rng.random(len(true)) < WAVERING, rng.random(len(true)) < 0.5, true)
    trainer = RewardTrainer("bench", _SPEC_ID, seed)
    for offset, text in enumerate(texts[:LEARNED]):
        verdict = Verdict.HELPFUL if said[offset] else Verdict.UNHELPFUL
        what = (_SPEC_ID, caption_id(text), (text,), verdict)
        trainer.see(0, offset, Annotation.unasked(*what, Origin.RULES, "bench", 1, 1))
        if trainer.is_due():
            trainer.train()
    while trainer.is_due(quiet=True):
        trainer.train()
    rows = to_rows([to_bytes(text) for text in texts])
    probability = helpful_probability(trainer.network, rows).astype(np.float64)
    own, new = (
        ModelTrial(probability[part], true[part], said[part])
        for part in (slice(None, LEARNED), slice(LEARNED, None))
    )
    return own, new


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


def _precision(one: ModelTrial) -> float:
    return one.rewarded.precision or 0.0


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
