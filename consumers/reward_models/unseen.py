"""How good a reward model is on what it has not learned from: each new verdict tests it, then trains it.

Test-then-train, the prequential estimate (Dawid 1984, doi 10.2307/2981683): before a version is trained, the
one before judges the subjects whose verdicts have come since. So nothing is kept from the weights that
reward, and every figure is of captions that the model had not learned from. The newest :data:`MOST_UNSEEN`
count.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

MOST_UNSEEN = 1_024
"""Subjects over which figures are taken."""

HELD_OUT_PART = 16
"""Where all data is there from the start, one caption in so many tests a model that is trained without
them."""


def is_held_out(caption_id: bytes, seed: int) -> bool:
    """Whether a caption is one of those that test, under a seed: others with another."""
    return random.Random(caption_id + seed.to_bytes(8)).randrange(HELD_OUT_PART) == 0


def was_held_out(caption_id: bytes) -> bool:
    """Whether onibus 0.1.0 kept a caption from all of its models."""
    return caption_id[-1] % HELD_OUT_PART == 0


def classified_figures(
    probability: NDArray[np.float64], true: NDArray[np.bool_], threshold: float
) -> dict[str, float]:
    """Figures of p(helpful), float64 (n,), against verdicts, bool (n,); n > 0.

    Accuracy alone says little where few are helpful: a model that says no to all has 99 % of 1 % helpful
    right. So beside it stand how many were tested and how many of them were helpful; precision, the share of
    what it would reward that is helpful; recall, the share of the helpful that it would reward; and balanced
    accuracy, the mean of recall and of the same for the unhelpful. What cannot be told is left out.
    """
    said = probability > threshold
    figures = {
        "held_out": float(len(true)),
        "held_out_positive": float(np.count_nonzero(true)),
        "held_out_accuracy": float(np.mean(said == true)),
        "held_out_brier": float(np.mean((probability - true) ** 2)),
    }
    if said.any():
        figures["held_out_precision"] = float(np.mean(true[said]))
    if true.any():
        figures["held_out_recall"] = float(np.mean(said[true]))
    if true.any() and not true.all():
        figures["held_out_balanced_accuracy"] = float((np.mean(said[true]) + np.mean(~said[~true])) / 2)
    return figures


def told(figures: Mapping[str, float]) -> str:
    """The figures of a version for a person: never a percentage without what it is of."""
    if "held_out_accuracy" not in figures:
        return "accuracy on new captions not known yet"
    accuracy = f"accuracy on new captions {figures['held_out_accuracy']:.1%}"
    if "held_out" not in figures:
        return accuracy
    if "held_out_positive" not in figures:
        return f"{accuracy} of {figures['held_out']:.0f} decided pairs"
    parts = ", ".join(
        f"{name.replace('_', ' ')} {figures[f'held_out_{name}']:.0%}"
        for name in ("balanced_accuracy", "precision", "recall")
        if f"held_out_{name}" in figures
    )
    helpful = f"{figures['held_out_positive']:.0f} of {figures['held_out']:.0f} helpful"
    return f"{accuracy} ({f'{parts}; ' if parts else ''}{helpful})"
