"""How many comparisons ``onibus annotate --near-pairs`` saves: the same captions, with it and without.

Captions of random play come up in groups. Each leads to its comparisons, a judge that wavers answers, and two
versions are trained after each group. Captions that are never compared tell how well the order is learned.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random

import numpy as np
from numpy.typing import NDArray

from onibus.consumers.annotator.comparing import Comparing
from onibus.consumers.annotator.comparison_labels import ComparisonLabels
from onibus.consumers.annotator.comparison_partners import ComparisonPartners, Partner
from onibus.consumers.annotator.pending import PendingCaption
from onibus.consumers.reward_models.character_cnn import caption_scores, to_bytes, to_rows
from onibus.consumers.reward_models.trainer import RewardTrainer
from onibus.learner.benchmarks.result import Figure
from onibus.producers.nethack.random_play import random_captions
from onibus.schemas import ids
from onibus.schemas.records import Annotation, Kind, Origin, Verdict

TASK, SEED = "score", 0
COMPARISONS, GROUP, HELD_OUT = 4, 64, 0.25
WAVERING = 0.1
"""Share of the answers that are tossed for."""
_SPEC_ID = b"bencheds"
_WORTH = (
    ("kill|destroy", 6.0), (r"gold|\$", 5.0), ("level|stairs", 4.0), (r"\bhit|bite|miss", 3.0),
    ("door|open", 2.0), ("see here|feel here", 1.5), ("wall|stone|solid", -2.0), ("die|dead|corpse", -1.0),
    ("hungry|faint", -3.0), ("You have|no ", -0.5),
)  # fmt: skip
"""What the judge goes by: sums of these make some thirty degrees."""


def measure(play_steps: int, captions: int, seeds: int) -> list[Figure]:
    """Pairs of unseen captions in the right order after all comparisons, and how many the near ones need.

    Args:
        play_steps: random steps of the full game.
        captions: that are compared at most.
        seeds: trainings of each kind, whose means are taken.
    """
    texts = Random(SEED).sample(found := random_captions([TASK], play_steps, SEED), len(found))
    unseen, compared = np.split(np.array(texts, object), [round(HELD_OUT * len(texts))])
    runs = [
        [_right_after(list(compared[:captions]), list(unseen), seed, is_near) for seed in range(seeds)]
        for is_near in (False, True)
    ]
    anyhow, near = (np.mean(np.array(each), axis=0) for each in runs)  # (groups, 2)
    enough = near[near[:, 1] >= anyhow[-1, 1], 0]
    needed = float(enough[0]) if enough.size else float("nan")
    return [
        Figure("comparisons", float(anyhow[-1, 0]), ""),
        Figure("unseen pairs in the right order, any pairs", float(anyhow[-1, 1]), "share"),
        Figure("… near pairs", float(near[-1, 1]), "share"),
        Figure("comparisons after which near pairs are as good", needed, ""),
        Figure("saved", 1 - needed / float(anyhow[-1, 0]), "share"),
    ]


def _right_after(
    compared: Sequence[str], unseen: Sequence[str], seed: int, is_near: bool
) -> list[tuple[int, float]]:
    """After each group: comparisons so far, and the share of unseen pairs in the right order."""
    random, trainer = Random(seed), RewardTrainer("bench", _SPEC_ID, seed, kind=Kind.COMPARE_TWO)
    pool, labels, made, right = ComparisonPartners(), ComparisonLabels(comparing=[_SPEC_ID]), 0, []
    comparing = Comparing(pool, COMPARISONS)

    def scores(_: bytes, texts: Sequence[str]) -> NDArray[np.float64]:
        return caption_scores(trainer.network, to_rows([to_bytes(text) for text in texts])).astype(np.float64)

    for start in range(0, len(compared), GROUP):
        group = compared[start : start + GROUP]
        pool.add([Partner(ids.caption_id(text), text, 0, 0) for text in group])
        for text in group:
            caption = PendingCaption(0, 0, ids.caption_id(text), text, 0, b"")
            for subject in comparing.missing(labels, _SPEC_ID, caption, COMPARISONS):
                trainer.see(0, made, _answer(subject.subject_id, subject.texts, random))
                made += 1
        if not trainer.objective.data.can_teach:
            continue
        for _ in range(2):
            trainer.train()
        comparing.scores = scores if is_near else None
        right.append((made, _in_order(scores(_SPEC_ID, unseen), np.array([*map(_worth, unseen)]))))
    return right


def _worth(text: str) -> float:
    return sum(worth for pattern, worth in _WORTH if re.search(pattern, text))


def _in_order(scores: NDArray[np.float64], worth: NDArray[np.float64]) -> float:
    one, other = np.triu_indices(len(worth), 1)
    differs = worth[one] != worth[other]
    return float(np.mean(((scores[one] > scores[other]) == (worth[one] > worth[other]))[differs]))


def _answer(subject_id: bytes, texts: tuple[str, ...], random: Random) -> Annotation:
    difference = _worth(texts[0]) - _worth(texts[1])
    verdict = Verdict.TIE if not difference else Verdict.FIRST if difference > 0 else Verdict.SECOND
    if random.random() < WAVERING:
        verdict = random.choice([Verdict.FIRST, Verdict.SECOND, Verdict.TIE])
    return Annotation.unasked(_SPEC_ID, subject_id, texts, verdict, Origin.RULES, "bench", 1, 1)
